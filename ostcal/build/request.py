"""What is asked of a run that makes masters, and who follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from ostcal.engine.execution import Execution
from ostcal.engine.graph import Progress
from ostcal.engine.rejection import RejectionMethod
from ostcal.fits.sections import OverscanRule
from ostcal.formula import Formula
from ostcal.frames import FrameType
from ostcal.inputs.forced_kinds import KindRules
from ostcal.inputs.grouping import Group, GroupRules
from ostcal.library.ages import MaxAges
from ostcal.library.find import store_location
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Outcome
from ostcal.measure.limits import DefectLimits, FrameLimits, MasterLimits
from ostcal.vocabulary import Cubes, FlatScaling, Flavour, MasterFormat, MasterNames, NormalizationMethod, Prefer


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Where warnings and failures begin."""

    frames: FrameLimits = field(default_factory=FrameLimits)
    masters: MasterLimits = field(default_factory=MasterLimits)
    defects: DefectLimits = field(default_factory=DefectLimits)
    bias_temperature_c: float = 20.0
    """How far temperatures of bias frames may be apart: their level hardly depends on them."""
    full_scale_adu: float | None = None
    """Level at which samples of the camera end; ``None`` is found from samples and headers."""


@dataclass(frozen=True, kw_only=True)
class PublishRules:
    """How a combined master is judged and written."""

    save_fits: bool = True
    extensions: bool = False
    flavour: Flavour = "adu"
    format: MasterFormat = "fits"
    names: MasterNames = "short"
    quality: QualityRules | None = field(default_factory=QualityRules)
    """``None`` without quality control."""
    leave_out: bool = True
    """Whether frames of another kind are left out of their master; not without quality control."""
    min_frames: int = 3
    """Frames that a master needs at least."""
    reported: bool = False
    """Whether a report reads the masters afterwards: what it reads goes through the page cache."""
    config_digest: str = ""
    """Of the configuration behind the request, for the headers."""
    config_options: tuple[str, ...] = ()
    """The options with which another command finds the same masters, for the commands that messages name."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What is asked of a run."""

    input_dirs: tuple[str, ...]
    output_dir: str
    library_dir: str = ""
    """Where masters of earlier runs are, with words for nights or cameras; empty is `output_dir`."""
    make_bias: bool = True
    make_darks: bool = True
    make_flats: bool = True
    required: frozenset[FrameType] = frozenset()
    """Kinds that were asked for by name: that there are none is an error."""
    method: RejectionMethod
    normalization: NormalizationMethod = "mean"
    flat_scaling: FlatScaling = "mean"
    bayer_normalization: bool = True
    rules: GroupRules = field(default_factory=GroupRules)
    overscan: OverscanRule = field(default_factory=OverscanRule)
    kinds_of_files: KindRules = field(default_factory=dict)
    """Kinds that the user states for folders and patterns."""
    exposure_tolerance: float = 0.1
    max_scale_up: float = 2.0
    """Times the exposure of a dark that its dark current is scaled up to for flats."""
    max_ages: MaxAges = field(default_factory=MaxAges)
    """Of the bias and the darks of flats."""
    strict_ages: bool = False
    """Whether those beyond their age are refused."""
    prefer: Prefer = "nearest"
    """Which of those that fit alike is taken."""
    synthetic_bias: Formula | None = None
    """Level that flats take where no dark and no bias fits."""
    uncalibrated: frozenset[FrameType] = frozenset()
    """Kinds from which nothing is subtracted: another program has done it."""
    use_masters_on_disk: bool = True
    only_changed: bool = True
    """Whether masters are left as they are whose frames, settings and darks have not changed."""
    publishing: PublishRules = field(default_factory=PublishRules)
    cubes: Cubes = "refuse"
    """What FITS images of three axes are."""
    verify: bool = True
    """Whether stored frames are checked while they are read."""
    use_failed: bool = False
    """Whether masters on disk that failed their quality control are used."""
    memory_limit_bytes: int = 4 * 2**30
    strip_rows: int | None = None
    execution: Execution = field(default_factory=Execution)
    lock_wait_s: float = 0.0
    """How long to wait for another run that writes into the output directory."""

    @property
    def library(self) -> str:
        """Where masters of earlier runs are."""
        return self.library_dir or self.output_dir

    @cached_property
    def store(self) -> MasterStore:
        """The store of the masters."""
        return MasterStore(store_location(self.output_dir))

    @property
    def kinds(self) -> set[FrameType]:
        """The kinds of frames that are wanted; darks are made of bias frames too."""
        bias = self.make_bias or self.make_darks
        wanted = (FrameType.BIAS, bias), (FrameType.DARK, self.make_darks), (FrameType.FLAT, self.make_flats)
        return {kind for kind, is_wanted in wanted if is_wanted}


class MadeMaster(Protocol):
    """A master that was published, as a watcher sees it."""

    @property
    def name(self) -> str:
        """Of the master in its store."""

    @property
    def group(self) -> Group:
        """The frames that were combined."""

    @property
    def files(self) -> tuple[tuple[FrameType, str], ...]:
        """Its files, each with the kind of master that it is."""

    @property
    def verdict(self) -> Outcome | None:
        """Of its quality control; ``None`` without one."""

    @property
    def quality_lines(self) -> list[str]:
        """A line for each finding that is worth a look."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Follows a run."""

    planned: Callable[[Sequence[Group], int], bool] = lambda groups, n_bytes: True
    """Called with the groups and the bytes of frames to be read, before work begins; false ends the run."""
    progressed: Callable[[Progress], None] = lambda progress: None
    published: Callable[[MadeMaster], None] = lambda published: None
    """Called with each master when it can be read by others; the run waits until it returns."""
    failed: Callable[[str], None] = lambda line: None
    """Called with the line about a master that could not be made, when that is known."""
