"""Which flats saw the same light path: the same telescope and focal length, the camera turned alike."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from ostcal.frames import Optics

ROTATION_TOLERANCE_DEG = 1.0
"""Cameras turned by less see the same shadows of dust within some pixels."""
FOCAL_LENGTH_SHARE = 0.01
"""Focal lengths that differ by less are one: programs measure them on stars. A reducer changes them by a tenth."""
_ROUNDING = 1e-6


def optics_differ(a: Optics, b: Optics, rotation_tolerance_deg: float = ROTATION_TOLERANCE_DEG) -> str:
    """Name the first thing in which two light paths differ, or return ""; what one does not record fits anything.

    Angles of rotators are compared; angles on the sky only where one of the two has no angle of its rotator. An angle
    of a rotator and one on the sky are two quantities and say nothing of each other. Half a circle is a difference:
    shadows of dust are on the other side.
    """
    if a.telescope and b.telescope and telescope_identity(a.telescope) != telescope_identity(b.telescope):
        return f"telescope {a.telescope} against {b.telescope}"
    x_mm, y_mm = a.focal_length_mm, b.focal_length_mm
    if x_mm is not None and y_mm is not None and not is_same_length(x_mm, y_mm):
        return f"focal length {x_mm:g} mm against {y_mm:g} mm"
    angles = angles_of_both(a, b)
    if angles is not None and degrees_apart(*angles) > rotation_tolerance_deg + _ROUNDING:
        is_rotator = a.rotator_deg is not None and b.rotator_deg is not None
        return f"{'rotator' if is_rotator else 'position'} angle {angles[0]:g} deg against {angles[1]:g} deg"
    return ""


def is_same_length(a_mm: float, b_mm: float) -> bool:
    """Return whether two focal lengths are one."""
    return abs(a_mm - b_mm) <= (FOCAL_LENGTH_SHARE + _ROUNDING) * max(a_mm, b_mm)


def angles_of_both(a: Optics, b: Optics) -> tuple[float, float] | None:
    """Return the angles of two light paths that can be compared: of both rotators, else of both on the sky."""
    if a.rotator_deg is not None and b.rotator_deg is not None:
        return a.rotator_deg, b.rotator_deg
    if a.sky_angle_deg is not None and b.sky_angle_deg is not None:
        return a.sky_angle_deg, b.sky_angle_deg
    return None


def says_angle(optics: Optics) -> bool:
    """Return whether a light path has an angle of either kind."""
    return optics.rotator_deg is not None or optics.sky_angle_deg is not None


def degrees_apart(a_deg: float, b_deg: float) -> float:
    """Return how far two angles are apart on the circle: 359.6 and 0.2 degrees are 0.6."""
    apart = (a_deg - b_deg) % 360.0
    return min(apart, 360.0 - apart)


@lru_cache(maxsize=1024)
def telescope_identity(name: str | None) -> str | None:
    """Return what is equal for spellings of one telescope: ``Esprit 100ED``, ``ESPRIT-100 ED``."""
    return re.sub(r"[\W_]+", "", name).casefold() or None if name is not None else None


def optics_clusters(optics: Sequence[Optics], rotation_tolerance_deg: float) -> list[list[int]]:
    """Split light paths of one telescope by focal length and angle; return their indices.

    What does not record one of them is a cluster of its own.
    """
    alike: dict[tuple[int | None, str], list[int]] = defaultdict(list)
    lengths = _length_clusters(optics)
    for index, one in enumerate(optics):
        kind = "rotator" if one.rotator_deg is not None else "sky" if one.sky_angle_deg is not None else ""
        alike[lengths.get(index), kind].append(index)
    clusters = []
    for (_, kind), members in alike.items():
        angles = {index: angle for index in members if (angle := _angle_of(optics[index])) is not None}
        clusters += _angle_clusters(angles, rotation_tolerance_deg) if kind else [members]
    return clusters


def common_optics(optics: Sequence[Optics]) -> Optics:
    """Return the light path of a cluster: its first telescope, the medians of the rest.

    Beside the angles of rotators, those on the sky are kept where they are alike: frames may state only these.
    """
    lengths = [one.focal_length_mm for one in optics if one.focal_length_mm is not None]
    rotator_deg = _median_angle([one.rotator_deg for one in optics])
    sky_deg = _median_angle([one.sky_angle_deg for one in optics])
    if sky_deg is not None and rotator_deg is not None:
        farthest_deg = max(degrees_apart(one.sky_angle_deg or 0.0, sky_deg) for one in optics)
        sky_deg = sky_deg if farthest_deg <= ROTATION_TOLERANCE_DEG else None
    return Optics(
        telescope=optics[0].telescope,
        focal_length_mm=statistics.median(lengths) if lengths else None,
        rotator_deg=rotator_deg,
        sky_angle_deg=sky_deg,
    )


def _angle_of(optics: Optics) -> float | None:
    return optics.rotator_deg if optics.rotator_deg is not None else optics.sky_angle_deg


def _length_clusters(optics: Sequence[Optics]) -> dict[int, int]:
    """Return the number of the cluster of each index that has a focal length."""
    known = sorted((one.focal_length_mm, index) for index, one in enumerate(optics) if one.focal_length_mm is not None)
    number, lowest_mm, clusters = 0, 0.0, dict[int, int]()
    for length_mm, index in known:
        if length_mm - lowest_mm > (FOCAL_LENGTH_SHARE + _ROUNDING) * length_mm:
            number, lowest_mm = number + 1, length_mm
        clusters[index] = number
    return clusters


def _angle_clusters(angles_deg: dict[int, float], tolerance_deg: float) -> list[list[int]]:
    """Split angles, beginning behind the widest gap of the circle; none is beyond the tolerance of its first."""
    order = sorted(angles_deg, key=lambda index: (angles_deg[index], index))
    gaps = [(angles_deg[b] - angles_deg[a]) % 360.0 for a, b in zip(order[-1:] + order[:-1], order, strict=True)]
    start = max(range(len(order)), key=lambda place: (gaps[place] if len(order) > 1 else 0.0, -place))
    clusters: list[list[int]] = []
    for index in order[start:] + order[:start]:
        first = clusters[-1][0] if clusters else None
        if first is None or (angles_deg[index] - angles_deg[first]) % 360.0 > tolerance_deg + _ROUNDING:
            clusters.append([])
        clusters[-1].append(index)
    return clusters


def _median_angle(angles_deg: Sequence[float | None]) -> float | None:
    """Return the median of angles near to each other; ``None`` where one is not known."""
    known = [angle for angle in angles_deg if angle is not None]
    if len(known) < len(angles_deg):
        return None
    first = known[0]
    turned = statistics.median((angle - first + 180.0) % 360.0 for angle in known)
    return round((turned - 180.0 + first) % 360.0, 4) % 360.0
