"""Import of FITS frames into zarr series: which frame goes into which series, and the copying."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from ostcal.errors import InputError
from ostcal.fits.read import FitsFrame
from ostcal.fits.tiles import UNLIMITED_BYTES
from ostcal.frames import FrameType
from ostcal.inputs.copy_frames import SeriesReport, import_frames
from ostcal.inputs.forced_kinds import NO_RULES, KindRules
from ostcal.inputs.gather import gather_inputs
from ostcal.inputs.group_names import series_names
from ostcal.inputs.grouping import Group, GroupRules
from ostcal.inputs.image_sets import group_images
from ostcal.naming import folder_of, night_of
from ostcal.places.durable import storage_errors
from ostcal.places.locking import series_locked
from ostcal.places.paths import joined, make_directory, path_of
from ostcal.vocabulary import Cubes


@dataclass(frozen=True, kw_only=True)
class SeriesImport:
    """Frames that go into one series."""

    location: str
    frame_type: FrameType
    frames: tuple[FitsFrame, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of the frames' samples as 16-bit words."""
        return sum(2 * frame.width * frame.height for frame in self.frames)


def plan_imports(
    directories: Sequence[str],
    *,
    rules: GroupRules,
    dark_dir: str,
    flat_dir: str,
    masters_dir: str,
    cubes: Cubes = "refuse",
    kinds: KindRules = NO_RULES,
) -> tuple[list[SeriesImport], list[str]]:
    """Sort the FITS frames below directories into series; return the plans and a line for every frame left out."""
    inputs = gather_inputs(
        directories, exclude=masters_dir, advice="name a folder that holds frames", cubes=cubes, kinds=kinds
    )
    fits = {label: source for label, source in inputs.sources.items() if source.fits is not None}
    rules = replace(rules, window_days=None, max_frames=None)  # series hold all frames, masters choose among them
    grouping = group_images((source.frame for source in fits.values()), rules)
    left_out = [*inputs.left_out, *(f"{frame.label}: left out, {reason}" for frame, reason in grouping.unused)]
    plans = []
    by_dir: dict[str, list[Group]] = defaultdict(list)
    for group in (*grouping.groups, *grouping.too_small):
        by_dir[_folder(flat_dir if group.key.frame_type is FrameType.FLAT else dark_dir, group)].append(group)
    for directory, groups in by_dir.items():
        for group, name in zip(groups, series_names(groups), strict=True):
            plans.append(
                SeriesImport(
                    location=joined(directory, f"{name}.zarr"),
                    frame_type=group.key.frame_type,
                    frames=tuple(f for frame in group.frames if (f := fits[frame.label].fits) is not None),
                )
            )
    return plans, left_out


def _folder(pattern: str, group: Group) -> str:
    """Return the directory of a group: the night, date and camera of its first frame are filled in."""
    metadata = group.frames[0].metadata
    night = night_of(metadata.date_obs, group.key.noon_utc_s)
    if metadata.date_obs is None or night is None:
        if "{night}" in pattern or "{date}" in pattern:
            raise InputError(
                f"{group.frames[0].label}: DATE-OBS is missing, so it has no night for the directory {pattern};"
                " import it with an output_dir without {night} and {date}"
            )
        night = date.min
    day = metadata.date_obs.date() if metadata.date_obs is not None else night
    return folder_of(pattern, night=night, day=day, camera=metadata.settings.camera or "")


def import_all(
    plans: Sequence[SeriesImport],
    *,
    compressor: str,
    rows: int | None = None,
    on_frame: Callable[[SeriesImport, int], None],
    memory_limit_bytes: int = UNLIMITED_BYTES,
) -> list[SeriesReport]:
    """Copy all planned frames; `on_frame` is called with the plan and the bytes of each frame.

    Frames that take more than `memory_limit_bytes` are left out and named.
    """
    reports = []
    for plan in plans:
        n_bytes = plan.n_bytes // max(1, len(plan.frames))
        series = path_of(plan.location)
        with storage_errors(f"{series.parent}: the directory cannot be made"):
            make_directory(series.parent)  # where the lock goes
        with series_locked(series):
            report = import_frames(
                plan.frames,
                plan.location,
                compressor=compressor,
                rows=rows,
                frame_type=plan.frame_type,
                on_frame=partial(on_frame, plan, n_bytes),
                memory_limit_bytes=memory_limit_bytes,
            )
        reports.append(report)
    return reports
