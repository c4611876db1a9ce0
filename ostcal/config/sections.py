"""The sections of the file: one model each; the first line of its docstring introduces it in the reference."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, create_model, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from ostcal.config.calibration_section import CalibrationSection, word_for_all_kinds
from ostcal.config.capture_sections import DarkCaptureSection, FlatCaptureSection
from ostcal.config.given import KeyPath
from ostcal.config.hooks_section import HooksSection
from ostcal.config.input_section import InputSection
from ostcal.config.matching_section import MatchingSection
from ostcal.config.quality_sections import QualitySection
from ostcal.config.schedule_section import SafetySection, ScheduleSection
from ostcal.config.session_keys import SessionKeys
from ostcal.config.site_section import SiteSection
from ostcal.config.values import (
    Binning,
    CaptureDirectory,
    Celsius,
    ClusterStart,
    CountOrZero,
    Endpoint,
    ImageSection,
    MemorySize,
    NotNegative,
    OpenSection,
    PolynomialDegree,
    Port,
    Positive,
    ReadoutMode,
    Retries,
    Section,
    Setting,
    StripRows,
    Switch,
    SyntheticBias,
    Text,
    Texts,
    Workers,
    empty_is_default,
    key,
    type_of,
    word_is_source,
)
from ostcal.engine.rejection import METHOD_KEYS, METHODS
from ostcal.vocabulary import (
    Calibration,
    CameraType,
    Compressor,
    Cubes,
    FlatScaling,
    Flavour,
    MasterFormat,
    MasterNames,
    NormalizationMethod,
    OverscanAxis,
    OverscanFit,
    OverscanLevel,
    Scheduler,
)

if TYPE_CHECKING:
    RejectionName = str
else:
    RejectionName = Literal[tuple(METHODS)]


class _CombiningSection(SessionKeys):
    output_dir: CaptureDirectory = key(
        "master_frames",
        "Directory of the masters and of the log file. With {night}, {date} or {camera}, those of the newest frame, new"
        " masters are written to a directory of their own, and all of these directories are the library.",
    )
    rejection_method: RejectionName = key("sigma_clip", "How outliers among the samples of a pixel are rejected.")


OverscanSource = Literal["auto", "none", "given"]


class OverscanSection(Section):
    """Overscan of the frames; a word alone (overscan: auto) is its source."""

    section: ImageSection | None = key(None, "The overscan of every frame, also of those that are captured.")
    trim: ImageSection | None = key(None, "What is kept of every frame; null is what the overscan leaves.")
    source: OverscanSource = key(
        "auto",
        "With auto, section and trim are taken, or else sections from the headers (BIASSEC, TRIMSEC, COVER and"
        " others); none keeps whole images, given takes section and trim alone.",
    )
    axis: OverscanAxis | None = key(
        None, "A level for each of the rows or the columns; null is as the overscan lies beside or above the image."
    )
    level: OverscanLevel = key("median", "Level of the overscan in one line.")
    fit: OverscanFit = key("none", "What is fitted to the levels along the lines; none subtracts each as it is.")
    degree: PolynomialDegree = key(1, "Degree of the polynomial that is fitted.")

    @field_validator("source")
    @classmethod
    def _has_sections(cls, value: str, info: ValidationInfo) -> str:
        """Refuse sections that are to be given and are not."""
        if value == "given" and info.data.get("section") is None and info.data.get("trim") is None:
            raise PydanticCustomError(
                "order", 'it needs section or trim, such as "[1025:1056,:]"', {"other": "section"}
            )
        return value


if TYPE_CHECKING:
    _WithMethodKeys = _CombiningSection
else:
    _WithMethodKeys = create_model(
        "_WithMethodKeys",
        __base__=_CombiningSection,
        **{name: (type_of(k), key(k.default, k.meaning, k.unit)) for name, k in METHOD_KEYS.items()},
    )


class MasterFramesSection(_WithMethodKeys):
    """How frames are combined into masters."""

    normalization_method: NormalizationMethod = key("mean", "The level of a master flat that becomes 1.")
    flat_scaling: FlatScaling = key("mean", "The level by which flats are scaled to one another before rejection.")
    bayer_normalization: Switch = key(
        True, "Normalize a master flat separately for each colour if the headers name a Bayer pattern."
    )
    quality_control: Switch = key(True, "Check frames and masters, and measure the camera.")
    save_individual_masters: Switch = key(
        True, "Write every master as a file (see format); false writes masters to the zarr store only."
    )
    create_master_bias: Switch = key(True, "Make the master bias.")
    create_master_darks: Switch = key(True, "Make a master dark for every exposure time.")
    create_master_flats: Switch = key(True, "Make the master flats.")
    enable_calibration: Switch = key(
        True, "Allow the calibration of science frames; making masters does not depend on it."
    )
    only_changed: Switch = key(
        True,
        "Keep masters whose frames, settings and darks have not changed; false makes all masters again.",
    )
    auto_load_masters: Switch = key(True, "Use masters on disk if this run makes no matching ones.")
    calibration_tolerance: NotNegative = key(
        0.1, "Largest difference between the exposure times of a dark and a frame.", "share of the exposure time"
    )
    temperature_tolerance: NotNegative = key(
        2.0, "Largest difference of sensor temperatures within a group, and between a master and a frame.", "degrees C"
    )
    overscan: Annotated[
        OverscanSection, BeforeValidator(word_is_source, json_schema_input_type=OverscanSource | OverscanSection)
    ] = OverscanSection()
    bias_temperature_tolerance: NotNegative = key(
        20.0,
        "The same for bias frames, whose level hardly depends on the temperature. A flat takes a bias of any"
        " temperature, with a warning, if no other fits.",
        "degrees C",
    )
    synthetic_bias: SyntheticBias | None = key(
        None,
        "Level that is subtracted from flats if no dark and no bias fits, in ADU, or a formula of header cards; null"
        " is none.",
    )
    calibration: Annotated[
        CalibrationSection, BeforeValidator(word_for_all_kinds, json_schema_input_type=Calibration | CalibrationSection)
    ] = CalibrationSection()
    extensions: Switch = key(
        False, "Add the extensions UNCERT (uncertainty), NUSED (samples used) and DQ (bits of defects) to the masters."
    )
    cubes: Cubes = key(
        "refuse", "FITS images of three axes: refuse leaves them out, frames takes each plane as a frame."
    )
    lock_wait: NotNegative = key(
        0.0, "How long to wait if another run is writing to output_dir; 0 ends with an error at once.", "seconds"
    )
    flavour: Flavour = key(
        "adu", "Values of the FITS masters: adu, or pixinsight for values from 0 to 1 and the keywords of its scripts."
    )
    format: MasterFormat = key(
        "fits", "File format of the masters beside the store: fits, xisf (the format of PixInsight), or both."
    )
    names: MasterNames = key(
        "short",
        "Words in the names of masters: short has those in which the masters of a run differ, complete all settings"
        " that are recorded. Names in latest are complete in any case. Unchanged masters keep their names.",
    )


class CameraSection(OpenSection):
    """Settings of a camera before an exposure, with any driver."""

    exposure_time: Positive = key(1.0, "Exposure time if nothing else sets it.", "seconds")
    gain: Setting = key(
        None,
        "Gain in the units of the camera, or one of its labels (in quotes if it consists of digits); null does"
        " not set it.",
    )
    offset: Setting = key(None, "Offset in the units of the camera, or one of its labels; null does not set it.")
    binning: Binning = key((1, 1), "Pixels combined on the sensor, horizontally and vertically.", "pixels")
    readout_mode: ReadoutMode = key(None, "Readout mode by number or by name; null does not set it.")


class _AscomDriver(OpenSection):
    camera_name: Text | None = key(
        None,
        "ProgID of the driver, such as ASCOM.Simulator.Camera, or its name as the ASCOM chooser shows it; null is"
        " video.camera_name, and without that the chooser opens.",
    )


class _AlpacaDevice(OpenSection):
    host: Text = key("127.0.0.1", "Name or address of the Alpaca server.")
    port: Port = key(11111, "Port of the Alpaca server.")
    camera_name: Text | None = key(
        None, "Name of the camera on that server, in place of its number; null is video.camera_name."
    )
    device_id: CountOrZero = key(0, "Number of the camera on that server, if it is not found by its name.")
    filter_wheel_id: CountOrZero | None = key(None, "Number of the filter wheel on that server; null is none.")
    cover_calibrator_id: CountOrZero | None = key(
        None, "Number of the cover or flat panel on that server; null is none."
    )
    reply_timeout: Positive = key(10.0, "Longest wait for the reply to a command.", "seconds")
    silence_timeout: Positive = key(
        60.0, "Longest wait for the next byte of an image; some servers send nothing while they convert it.", "seconds"
    )


class AscomSection(CameraSection, _AscomDriver):
    """Camera if camera_type is ascom (Windows)."""


class AlpacaSection(CameraSection, _AlpacaDevice):
    """Camera if camera_type is alpaca (any system, over the network)."""


class SimulatorSection(OpenSection):
    """Simulated camera if camera_type is simulator; it is started for the run and reached over loopback HTTP."""

    sensor: Text = key(
        "demo", "Simulated sensor: demo (1 MP), bayer (colour), overscan (1 MP, with overscan) or qhy600m (61 MP)."
    )
    time_scale: Positive = key(1.0, "How much faster time passes than in reality.")
    seed: CountOrZero = key(1, "Seed of the noise and the faults.")
    faults: Texts = key((), "Faults to simulate; ostcal simulate --help lists them.")


class CoolingSection(OpenSection):
    """The cooler of the camera."""

    enable_cooling: Switch = key(False, "Cool the sensor before the first frame.")
    target_temperature: Celsius = key(-10.0, "Target temperature of the sensor.", "degrees C")
    wait_for_cooling: Switch = key(
        True,
        "Wait for the temperature before the first frame. If it is not reached, ostcal asks whether to"
        " continue; without a terminal it continues and records the actual temperature of each frame.",
    )
    cooling_timeout: Positive = key(600.0, "Longest wait for the temperature.", "seconds")
    stabilization_tolerance: Positive = key(
        1.0, "Largest difference from target_temperature at which it counts as reached.", "degrees C"
    )
    steady_time: NotNegative = key(
        30.0,
        "How long the temperature must stay within stabilization_tolerance before the first frame: a cooler overshoots"
        " first.",
        "seconds",
    )
    warmup_at_end: Switch = key(False, "Let the sensor warm up slowly after the last frame.")


class VideoSection(OpenSection):
    """The camera. The section may also be called camera; unknown keys are kept with a warning."""

    camera_type: CameraType = key("alpaca", "Driver of the camera.")
    camera_name: Text | None = key(
        None, "Camera by its name, or a part of it that no other has (ostcal cameras lists them); not of a simulator."
    )
    ascom: Annotated[AscomSection, BeforeValidator(empty_is_default)] = AscomSection()
    alpaca: Annotated[AlpacaSection, BeforeValidator(empty_is_default)] = AlpacaSection()
    simulator: Annotated[SimulatorSection, BeforeValidator(empty_is_default)] = SimulatorSection()
    cooling: Annotated[CoolingSection, BeforeValidator(empty_is_default)] = CoolingSection()


class WorkflowSection(Section):
    """Settings of ``ostcal workflow``."""

    masters_while_exposing: Switch = key(
        True,
        "Combine finished series while the camera takes the next one, at low priority and with one core left free; the"
        " resulting masters are the same.",
    )


class TlsSection(Section):
    """Certificates for a cluster with TLS: three PEM files, also known to the scheduler and the workers."""

    ca: Text | None = key(None, "Certificate of the authority that signed the other certificates.")
    cert: Text | None = key(None, "Certificate of this computer.")
    key: Text | None = key(None, "Its private key.")

    @field_validator("key")
    @classmethod
    def _all_or_none(cls, value: str | None, info: ValidationInfo) -> str | None:
        given = [*info.data.values(), value]
        if any(given) and not all(given):
            raise PydanticCustomError("order", "ca, cert and key belong together, or none of them", {"other": "ca"})
        return value


class ComputeSection(Section):
    """Scheduler, number of workers and memory."""

    scheduler: Scheduler = key("threads", "Threads or processes of this computer, or a Dask cluster (distributed).")
    workers: Workers | None = key(
        None,
        "Number of threads or processes; null is one process per core, or one thread more than cores, as"
        " threads wait for the disk.",
    )
    memory_limit: MemorySize = key(
        4 << 30,
        "Memory limit of all processes of a run together, or with distributed of each worker; a run that cannot fit is"
        " refused. In a container (control group of Linux) that has less, it is what the container has less 64 MiB.",
        "bytes",
    )
    address: Text | None = key(
        None,
        "Address of the Dask scheduler for distributed, such as tcp://10.0.0.5:8786 or tls://10.0.0.5:8786; null here"
        " and in the next two keys starts processes on this computer.",
    )
    scheduler_file: Text | None = key(None, "File written by dask scheduler --scheduler-file, instead of address.")
    cluster: ClusterStart = key(
        None,
        "A class with the cluster interface of Dask, and its arguments, instead of address; the cluster is"
        " started for the run and closed at its end.",
    )
    worker_wait: Positive = key(
        60.0, "Longest wait for the first worker (it may be queued), and for a new one if all have died.", "seconds"
    )
    tls: Annotated[TlsSection, BeforeValidator(empty_is_default)] = TlsSection()


class StorageSection(Section):
    """How series and masters are stored."""

    export_frames: Switch = key(False, "Also write each captured frame as a FITS file, beside its series.")
    verify: Switch = key(
        True, "Check the samples of stored frames while they are read; damaged frames are skipped with a warning."
    )
    strip_rows: StripRows = key(
        "auto",
        "Rows of a chunk of new series, and of the strips in which masters are combined; auto is 16 to 32 rows"
        " for series, depending on the frame size, and for masters depends on memory and cores.",
        "rows",
    )
    compressor: Compressor = key(
        "auto",
        "Compression of stored frames; auto is the fastest to read; lz4 makes bias and darks 10 to 30 % smaller,"
        " and zstd another 15 %.",
    )
    endpoint: Endpoint | None = key(
        None,
        "Server of s3:// locations, such as https://nas:9000; null is AWS_ENDPOINT_URL of the environment, or"
        " Amazon S3.",
    )
    region: Text | None = key(None, "Region of the server; null is AWS_REGION of the environment, or us-east-1.")
    retries: Retries = key(5, "Number of retries of a request to an object store, with increasing pauses.")
    timeout: Positive = key(30.0, "Longest time of one request; larger objects are sent in parts of 8 MiB.", "seconds")

    @property
    def rows(self) -> int | None:
        """`strip_rows`; ``None`` for ``auto``."""
        return None if self.strip_rows == "auto" else self.strip_rows

    @property
    def objects(self) -> dict[str, Any]:
        """The values of `ostcal.places.objects.ObjectOptions`."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "retries": self.retries,
            "timeout_s": self.timeout,
        }


SECTIONS: Mapping[str, type[Section]] = types.MappingProxyType(
    {
        "dark_capture": DarkCaptureSection,
        "flat_capture": FlatCaptureSection,
        "input": InputSection,
        "master_frames": MasterFramesSection,
        "matching": MatchingSection,
        "quality": QualitySection,
        "video": VideoSection,
        "workflow": WorkflowSection,
        "hooks": HooksSection,
        "schedule": ScheduleSection,
        "site": SiteSection,
        "safety": SafetySection,
        "compute": ComputeSection,
        "storage": StorageSection,
    }
)
ALIASES: Mapping[str, str] = types.MappingProxyType({"camera": "video"})
SECTION_NAMES = (*SECTIONS, *ALIASES)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration, with every value resolved; `load_config` makes it.

    Parameters
    ----------
    dark_capture, flat_capture, input, master_frames, matching : Section
        As the following.
    quality, video, workflow, hooks, schedule, site, safety, compute, storage : Section
        The sections, with the keys of ``docs/configuration.md`` as attributes; ``memory_limit`` is in bytes,
        ``binning`` is ``(x, y)``, directories are text as written and relative to the working directory.
    source : str or None
        The file they were read from; several are joined with commas.
    options : tuple of str
        The options with which another command finds the same masters.
    warnings : tuple of str
        One line for each value that is accepted but probably not meant.

    Examples
    --------
    >>> from ostcal import load_config
    >>> load_config({"master_frames": {"sigma_threshold": "2.7"}}).master_frames.sigma_threshold
    2.7
    """

    dark_capture: DarkCaptureSection = field(default_factory=DarkCaptureSection)
    flat_capture: FlatCaptureSection = field(default_factory=FlatCaptureSection)
    input: InputSection = field(default_factory=InputSection)
    master_frames: MasterFramesSection = field(default_factory=MasterFramesSection)
    matching: MatchingSection = field(default_factory=MatchingSection)
    quality: QualitySection = field(default_factory=QualitySection)
    video: VideoSection = field(default_factory=VideoSection)
    workflow: WorkflowSection = field(default_factory=WorkflowSection)
    hooks: HooksSection = field(default_factory=HooksSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    site: SiteSection = field(default_factory=SiteSection)
    safety: SafetySection = field(default_factory=SafetySection)
    compute: ComputeSection = field(default_factory=ComputeSection)
    storage: StorageSection = field(default_factory=StorageSection)
    source: str | None = None
    options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


ConfigSource = Config | str | os.PathLike[str] | Mapping[str, Any] | None
"""Configurations that the public classes accept; ``None`` is the defaults."""


def walk_keys() -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Yield every key of every section with its path."""
    for name, model in SECTIONS.items():
        yield from _walk(model, (name,))


def _walk(model: type[Section], path: KeyPath) -> Iterator[tuple[KeyPath, FieldInfo]]:
    for name, entry in model.model_fields.items():
        sub = section_of(entry)
        if sub is None:
            yield (*path, name), entry
        else:
            yield from _walk(sub, (*path, name))


def section_of(entry: FieldInfo) -> type[Section] | None:
    """Return the model of a group of keys; ``None`` for a key with a value."""
    annotation = entry.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None
