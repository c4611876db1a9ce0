"""What a frame does not record and masters differ in: nobody can tell then which of them is the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.optics import angles_of_both, degrees_apart, is_same_length, says_angle, telescope_identity
from ostcal.naming import filter_identity, mode_identity

Value = str | float

_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """A setting that masters may differ in."""

    name: str
    cards: str
    """That it is read from."""
    of: Callable[[GroupKey], Value | None]
    unit: str = ""
    identity: Callable[[str], str | None] = str
    """What is equal for spellings of one value."""
    default: Value | None = None
    """Which frames have that do not record it, unless masters say otherwise."""
    is_exact: bool = False
    """Whether a frame that does not record it takes a master that does not either, although all others are alike."""
    is_said: bool = False
    """Whether it is said that a master records it and the frame does not."""


def _of_settings(
    name: str, cards: str, *, identity: Callable[[str], str | None] = str, is_said: bool = False
) -> _Setting:
    return _Setting(
        name=name.replace("_", " "),
        cards=cards,
        of=lambda key: getattr(key.settings, name),
        identity=identity,
        is_said=is_said,
    )


def _origin_of(key: GroupKey) -> str | None:
    origin = key.settings.subframe_origin
    return f"({origin[0]}, {origin[1]})" if origin is not None else None


def _binning_of(key: GroupKey) -> str | None:
    return "{}x{}".format(*key.settings.binning) if key.states_binning else None


_CAMERA = (
    _Setting(name="binning", cards="XBINNING", of=_binning_of, default="1x1"),
    _of_settings("camera", "INSTRUME"),
    _of_settings("camera_id", "CAMERAID"),
    _of_settings("gain", "GAIN", is_said=True),
    _of_settings("offset", "OFFSET"),
    _of_settings("iso", "ISOSPEED", is_said=True),
    _of_settings("readout_mode", "READOUTM", identity=mode_identity),
    _Setting(name="subframe origin", cards="XORGSUBF, YORGSUBF", of=_origin_of, default="(0, 0)", is_said=True),
    _of_settings("row_order", "ROWORDER"),
    _of_settings("flip", "FLIPSTAT"),
)
_TEMPERATURE = _Setting(name="temperature", cards="CCD-TEMP", of=lambda key: key.temperature_c, unit=" C", is_said=True)
_FILTER = _Setting(
    name="filter",
    cards="FILTER",
    of=lambda key: key.filter_name or None,
    identity=lambda name: filter_identity(name).casefold(),
    is_exact=True,
    is_said=True,
)
_TELESCOPE = _Setting(
    name="telescope", cards="TELESCOP", of=lambda key: key.optics.telescope, identity=telescope_identity
)
_FOCAL_LENGTH = _Setting(name="focal length", cards="FOCALLEN", of=lambda key: key.optics.focal_length_mm, unit=" mm")
_OF_DARKS = (*_CAMERA, _TEMPERATURE)
_OF_FLATS = (_FILTER, *_CAMERA, _TELESCOPE, _FOCAL_LENGTH)


@dataclass(frozen=True, kw_only=True)
class OpenSettings:
    """Settings that a frame leaves open."""

    refusal: str = ""
    """Why none of the masters may be taken; "" where one may."""
    unrecorded: tuple[_Setting, ...] = field(default=())
    """Settings that a master must not record either."""

    def allows(self, master: GroupKey) -> bool:
        """Return whether a master may be taken, if there is no refusal."""
        return all(setting.of(master) is None for setting in self.unrecorded)


@dataclass(frozen=True, kw_only=True)
class OpenTolerances:
    """What is one value."""

    temperature_c: float
    rotation_deg: float


def open_settings(
    kind: FrameType, frame: GroupKey, masters: Sequence[tuple[GroupKey, int]], tolerances: OpenTolerances
) -> OpenSettings:
    """Find out what a frame leaves open among masters that fit it; with each is given how much it leaves open itself.

    Where a frame does not record a setting and the masters have several values of it, those are taken that do not
    record it either, if they leave no more open than others; without such the frame is refused. A frame without a
    filter goes to flats without a filter in any case.
    """
    found: list[_Setting] = []
    left = list(masters)
    for setting in _OF_FLATS if kind is FrameType.FLAT else _OF_DARKS:
        values = [] if setting.of(frame) is not None else _distinct(setting, left, tolerances)
        is_exact = setting.is_exact or (setting.default is not None and values != [setting.default])
        if not values or (len(values) == 1 and not is_exact):
            continue
        least = min(unstated for _, unstated in left)
        lacking = [(key, unstated) for key, unstated in left if setting.of(key) is None and unstated == least]
        if lacking:
            left = lacking
            found.append(setting)
        elif len(values) > 1:
            option = "flat" if kind is FrameType.FLAT else "dark"
            there = f"{', '.join(map(_text, values))}{setting.unit}"
            there = there if setting.name in ("filter", "temperature") else f"{setting.name} {there}"
            return OpenSettings(
                refusal=f"the frame names no {setting.name} ({setting.cards}) and there are {option}s of {there}; "
                f"write {setting.cards} into its header or name a {option} with --{option}"
            )
    refusal = _several_angles(frame, [key for key, _ in left], tolerances) if kind is FrameType.FLAT else ""
    return OpenSettings(refusal=refusal, unrecorded=tuple(found))


def _several_angles(frame: GroupKey, flats: Iterable[GroupKey], tolerances: OpenTolerances) -> str:
    """Refuse flats of several angles where the frame has none that can be compared with theirs; "" otherwise."""
    optics = [key.optics for key in flats]
    if not optics or any(not says_angle(o) or angles_of_both(frame.optics, o) is not None for o in optics):
        return ""
    for what, card, its_own, angles in (
        ("rotator angle", "ROTATANG", frame.optics.sky_angle_deg, [o.rotator_deg for o in optics]),
        ("angle on the sky", "ROTSKYPA", frame.optics.rotator_deg, [o.sky_angle_deg for o in optics]),
    ):
        known = sorted({angle for angle in angles if angle is not None})
        if any(degrees_apart(angle, known[0]) > tolerances.rotation_deg + _ROUNDING for angle in known):
            own = f" (its {its_own:g} deg are another angle)" if its_own is not None else ""
            return (
                f"the frame names no {what} ({card}){own} and there are flats of "
                f"{', '.join(f'{angle:g}' for angle in known)} deg; write {card} into its header or name a flat with "
                "--flat"
            )
    return ""


def taken_unasked(frame: GroupKey, master: GroupKey) -> Iterator[str]:
    """Yield what a master records and a frame does not, and what masters usually differ in: ``temperature -10 C``."""
    is_flat = master.frame_type is FrameType.FLAT
    for setting in _OF_FLATS if is_flat else _CAMERA if master.frame_type is FrameType.BIAS else _OF_DARKS:
        value = setting.of(master)
        if setting.is_said and value not in (None, setting.default) and setting.of(frame) is None:
            yield f"{setting.name} {_text(value)}{setting.unit}"
    if is_flat and says_angle(master.optics) and not says_angle(frame.optics):
        rotator_deg, sky_deg = master.optics.rotator_deg, master.optics.sky_angle_deg
        yield f"rotator angle {rotator_deg:g} deg" if rotator_deg is not None else f"angle on the sky {sky_deg:g} deg"


def _distinct(setting: _Setting, masters: Sequence[tuple[GroupKey, int]], tolerances: OpenTolerances) -> list[Value]:
    """Return the values of masters in order; those that are one by the tolerances are one."""
    values = {value for key, _ in masters if (value := setting.of(key)) is not None}
    texts = {setting.identity(value): value for value in sorted(v for v in values if isinstance(v, str))}
    numbers = sorted(value for value in values if not isinstance(value, str))
    if numbers and _is_one(setting, numbers[0], numbers[-1], tolerances):
        numbers = numbers[:1]
    return [*numbers, *sorted(texts.values())]


def _is_one(setting: _Setting, low: float, high: float, tolerances: OpenTolerances) -> bool:
    """Return whether two numbers are one by the tolerance of a setting."""
    if setting is _TEMPERATURE:
        return high - low <= tolerances.temperature_c + _ROUNDING
    return setting is _FOCAL_LENGTH and is_same_length(low, high)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{round(value, 2) + 0.0:g}"
