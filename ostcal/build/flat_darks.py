"""The darks that flats may take, of this run and on disk, and what is said of those that are taken."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from ostcal.build.dark_planes import dark_model
from ostcal.build.match_darks import DarkCandidate, DarkChoice, FlatDarkRules, NoDark, choose_dark
from ostcal.build.request import BuildRequest
from ostcal.build.synthetic_bias import KEY as SYNTHETIC_BIAS
from ostcal.build.synthetic_bias import synthetic_bias
from ostcal.engine.levels import DarkModel, SteppedReader
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Group
from ostcal.inputs.observed import Observed
from ostcal.inputs.stated_settings import unstated_settings
from ostcal.library.ages import AgeLog, DatedMaster, farthest_age_days
from ostcal.library.find import LibraryMaster
from ostcal.library.quality_notes import repeated_warnings
from ostcal.measure.findings import Outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FlatDark:
    """The dark of a flat: what was chosen, and what is subtracted."""

    choice: DarkChoice
    model: DarkModel


class PlannedDark(NamedTuple):
    """A dark that flats may take."""

    plane: SteppedReader
    identity: str
    """Tells it from one of other frames: the same whether it is made now or was made before."""

    @classmethod
    def stored(cls, master: LibraryMaster) -> PlannedDark:
        """Return a master on disk."""
        return cls(master.plane, master.record.recipe or master.record.calibration_id)


@dataclass(frozen=True, kw_only=True)
class DarkShelf:
    """The bias and darks that the flats of a run may take."""

    on_disk: dict[DarkCandidate, PlannedDark]
    of_run: dict[DarkCandidate, PlannedDark] = field(default_factory=dict)

    @classmethod
    def of_library(cls, library: Sequence[LibraryMaster], *, use_failed: bool) -> DarkShelf:
        """Return the masters on disk that may serve: a mixture of two levels never does."""
        return cls(
            on_disk={
                stored_candidate(m): PlannedDark.stored(m)
                for m in library
                if m.key.frame_type is not FrameType.FLAT
                and not m.record.has_two_levels
                and (use_failed or m.record.verdict != str(Outcome.FAIL))
            }
        )

    def dark_of(
        self, request: BuildRequest, group: Group, sources: Mapping[str, Source], barred: Collection[str] = ()
    ) -> tuple[FlatDark | None, list[str]]:
        """Choose the dark of a group, and return what tells it from others too.

        ``None`` for all but flats, and where nothing is subtracted: their dark was, or their bias and no dark without
        its bias fits. `barred` are masters of the run that cannot serve.

        Raises
        ------
        InputError
            If there is none.
        """
        if group.key.frame_type is not FrameType.FLAT or group.key.dark_subtracted:
            return None, []
        known = {**self.on_disk, **{c: dark for c, dark in self.of_run.items() if c.name not in barred}}
        # of one session those of the run go first
        candidates = [*(c for c in self.of_run if c in known), *self.on_disk]
        choice = choose_dark(group, candidates, rules_of(request))
        if isinstance(choice, NoDark):
            if group.key.bias_subtracted:
                return None, []
            if request.synthetic_bias is None:
                raise InputError(f"{choice.message}, or set {SYNTHETIC_BIAS} to its level")
            made = synthetic_bias(request.synthetic_bias, group, [sources[frame.label] for frame in group.frames])
            model = DarkModel(first=made.plane, first_exposure_s=group.key.exposure_time_s)
            return FlatDark(choice=made.choice, model=model), [made.choice.first.name]
        model = dark_model(choice, lambda candidate: known[candidate].plane)
        return FlatDark(choice=choice, model=model), [known[candidate].identity for candidate in choice.candidates]


def rules_of(request: BuildRequest) -> FlatDarkRules:
    """Return how near the dark of a flat must be."""
    return FlatDarkRules(
        exposure_tolerance=request.exposure_tolerance,
        temperature_tolerance_c=request.rules.temperature_tolerance_c,
        bias_temperature_tolerance_c=request.rules.bias_temperature_tolerance_c,
        max_scale_up=request.max_scale_up,
        max_ages=request.max_ages,
        strict=request.strict_ages,
        prefer=request.prefer,
        now=datetime.now(UTC),
    )


def stored_candidate(master: LibraryMaster) -> DarkCandidate:
    """Return a master on disk as a candidate."""
    record = master.record
    return DarkCandidate(
        name=record.name,
        key=master.at_sensor_temperature.key,
        made_at=record.made_at,
        from_this_run=False,
        observed=record.observed,
        verdict=record.verdict,
        noise=record.noise,
    )


# ---- what is said of them ----


def warned_darks(name: str, dark: FlatDark | None, library: Sequence[LibraryMaster]) -> list[str]:
    """Repeat what the quality control of the darks of a flat warned of, if they are of an earlier run."""
    earlier = {c.name for c in dark.choice.candidates if not c.from_this_run} if dark is not None else set()
    return [
        f"{name}: its dark {line}"
        for master in library
        if master.record.name in earlier
        for line in repeated_warnings(master)
    ]


def say_what_is_open(name: str, group: Group, dark: FlatDark | None) -> None:
    """Say which settings of a flat its dark does not record."""
    for candidate in dark.choice.candidates if dark is not None else ():
        if settings := unstated_settings(group.key, candidate.key):
            logger.info(
                "%s: its dark %s does not record %s: it is taken because none that does fits",
                name,
                candidate.label,
                " and ".join(settings),
            )


def note_ages(log: AgeLog, name: str, group: Group, dark: FlatDark | None) -> None:
    """Note how old the darks of a flat are."""
    masters = (DatedMaster(kind=c.key.frame_type, name=c.label, observed=c.observed) for c in _real(dark))
    log.note(name, taken_at_of(group), masters)


def ages_of(group: Group, dark: FlatDark | None) -> dict[FrameType, float]:
    """Return the ages of the bias and the dark of flats in days, of those that are known."""
    taken_at = taken_at_of(group)
    ages = {
        kind: farthest_age_days((c.observed for c in _real(dark) if c.key.frame_type is kind), taken_at)
        for kind in (FrameType.BIAS, FrameType.DARK)
    }
    return {kind: age_days for kind, age_days in ages.items() if age_days is not None}


def taken_at_of(group: Group) -> datetime | None:
    """Return the time of a group that is compared with that of masters."""
    observed = Observed.of(frame.metadata for frame in group.frames)
    return observed.middle if observed is not None else None


def _real(dark: FlatDark | None) -> tuple[DarkCandidate, ...]:
    """Return the masters that are subtracted; none where it is a level that was computed."""
    candidates = dark.choice.candidates if dark is not None else ()
    return tuple(c for c in candidates if not c.is_synthetic)
