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

from ostcal.config.quality_sections import QualitySection
from ostcal.config.values import (
    AboveOne,
    Binning,
    Celsius,
    ClusterStart,
    Count,
    CountOrZero,
    Directory,
    Endpoint,
    Factors,
    MemorySize,
    NotNegative,
    OpenSection,
    Port,
    Positive,
    ReadoutMode,
    Retries,
    Section,
    Setting,
    Share,
    StripRows,
    Switch,
    Text,
    Texts,
    Workers,
    empty_is_default,
    key,
    type_of,
)
from ostcal.engine.rejection import METHOD_KEYS, METHODS
from ostcal.vocabulary import (
    CameraType,
    Compressor,
    FlatScaling,
    Flavour,
    NormalizationMethod,
    Scheduler,
)

KeyPath = tuple[str, ...]
"""Section, groups and name of a key: ``("video", "alpaca", "port")``."""


def _above_min_exposure(value: float, info: ValidationInfo) -> float:
    minimum = info.data.get("min_exposure")
    if minimum is not None and value <= minimum:
        raise PydanticCustomError(
            "order", "it must be above min_exposure, which is {minimum}", {"minimum": minimum, "other": "min_exposure"}
        )
    return value


class DarkCaptureSection(Section):
    """How dark and bias frames are taken."""

    num_darks: Count = key(40, "Frames taken for each exposure time.", "frames")
    flat_exposure_time: Positive | None = key(
        None,
        "Exposure time of the flats, which need darks of their own; null uses that of the flats on disk.",
        "seconds",
    )
    science_exposure_time: Positive = key(5.0, "Exposure time of the science frames.", "seconds")
    min_exposure: NotNegative = key(
        0.001, "Shortest exposure time; frames at or below it count as bias frames.", "seconds"
    )
    max_exposure: Positive = key(60.0, "Longest exposure time; longer ones are not taken.", "seconds")
    exposure_factors: Factors = key(
        (0.5, 1.0, 2.0, 4.0), "Darks are taken at science_exposure_time times each of these."
    )
    output_dir: Directory = key("darks", "Directory of the dark and bias series, where masters are made from too.")

    _order = field_validator("max_exposure")(_above_min_exposure)


class FlatCaptureSection(Section):
    """How flat frames are taken."""

    target_count_rate: Share = key(
        0.5, "Wanted level: the mean of a frame divided by the full scale of the camera.", "share of full scale"
    )
    count_tolerance: Share = key(
        0.1, "How far the level may be from target_count_rate on either side.", "share of full scale"
    )
    num_flats: Count = key(40, "Flats taken.", "frames")
    min_exposure: NotNegative = key(0.001, "Shortest exposure time that is tried.", "seconds")
    max_exposure: Positive = key(10.0, "Longest exposure time that is tried.", "seconds")
    exposure_step_factor: AboveOne = key(
        1.5,
        "Factor on the exposure time after a frame that is too dark or too saturated to compute it from.",
    )
    max_adjustment_attempts: Count = key(10, "Exposures tried before giving up on the level.", "exposures")
    output_dir: Directory = key("flats", "Directory of the flat series, where masters are made from too.")
    filters: Texts = key((), "Names of filters, as in the wheel; a series of flats is taken with each.")
    twilight: Switch = key(False, "Follow the sky of dusk or dawn, frame by frame, instead of a steady light.")
    panel_brightness: CountOrZero | None = key(
        None, "First brightness of a flat panel, in its own steps; null is half of its maximum."
    )

    _order = field_validator("max_exposure")(_above_min_exposure)


if TYPE_CHECKING:
    RejectionName = str
else:
    RejectionName = Literal[tuple(METHODS)]


class _CombiningSection(Section):
    output_dir: Directory = key("master_frames", "Directory of the masters and of the log file.")
    rejection_method: RejectionName = key("sigma_clip", "How outlying samples of a pixel are found and left out.")


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

    min_frames: Count = key(3, "A group of fewer frames is reported and left out.", "frames")
    normalization_method: NormalizationMethod = key("mean", "The level of a master flat that becomes 1.")
    flat_scaling: FlatScaling = key("mean", "The level by which flats are scaled to one another before rejection.")
    bayer_normalization: Switch = key(
        True, "Normalise a master flat for each colour of the sensor if the headers name a Bayer pattern."
    )
    quality_control: Switch = key(True, "Measure frames and masters, and warn of unusual values.")
    save_individual_masters: Switch = key(
        True, "Write every master as a FITS file; false keeps them in the zarr master store only."
    )
    create_master_bias: Switch = key(True, "Make the master bias.")
    create_master_darks: Switch = key(True, "Make a master dark for every exposure time.")
    create_master_flats: Switch = key(True, "Make the master flats.")
    enable_calibration: Switch = key(
        True, "Whether science frames are calibrated with the masters; making masters does not depend on it."
    )
    only_changed: Switch = key(
        True,
        "Keep masters whose frames, settings and darks are unchanged since an earlier run; false makes all again.",
    )
    auto_load_masters: Switch = key(True, "Use masters on disk if this run makes no matching ones.")
    calibration_tolerance: NotNegative = key(
        0.1, "Largest difference of the exposure times of a dark and a frame.", "share of the exposure time"
    )
    temperature_tolerance: NotNegative = key(
        2.0, "Largest difference of sensor temperatures within a group, and between a dark and a flat.", "degrees C"
    )
    per_session: Switch = key(False, "Make separate masters for each night.")
    extensions: Switch = key(
        False, "Add the extensions UNCERT (uncertainty), NUSED (samples used) and DQ (bits of defects) to the masters."
    )
    lock_wait: NotNegative = key(
        0.0, "How long to wait for another run that writes into output_dir; 0 stops immediately.", "seconds"
    )
    flavour: Flavour = key(
        "adu", "Values of the FITS masters: adu for all programs, or 0 to 1 and names that PixInsight's scripts expect."
    )


class CameraSection(OpenSection):
    """Settings of a camera before an exposure, with any driver."""

    exposure_time: Positive = key(1.0, "Exposure time that a series starts with if nothing else decides it.", "seconds")
    gain: Setting = key(
        None,
        "Gain in the camera's own numbers, or one of its labels (in quotes if it is digits); null does not set it.",
    )
    offset: Setting = key(None, "Offset in the camera's own numbers, or one of its labels; null does not set it.")
    binning: Binning = key((1, 1), "Pixels combined on the sensor, across and along.", "pixels")
    readout_mode: ReadoutMode = key(None, "Readout mode by number or by name; null does not set it.")


class _AscomDriver(OpenSection):
    camera_name: Text | None = key(None, "ProgID of the driver, such as ASCOM.Simulator.Camera; null asks for one.")


class _AlpacaDevice(OpenSection):
    host: Text = key("127.0.0.1", "Name or address of the Alpaca server.")
    port: Port = key(11111, "Port of the Alpaca server.")
    device_id: CountOrZero = key(0, "Number of the camera on that server.")
    filter_wheel_id: CountOrZero | None = key(None, "Number of the filter wheel on that server; null is none.")
    cover_calibrator_id: CountOrZero | None = key(
        None, "Number of the cover or flat panel on that server; null is none."
    )
    reply_timeout: Positive = key(10.0, "Longest wait for the answer to one command.", "seconds")
    silence_timeout: Positive = key(
        60.0, "Longest wait for the next byte of an image; some servers are silent while they convert it.", "seconds"
    )


class AscomSection(CameraSection, _AscomDriver):
    """The camera where camera_type is ascom (Windows)."""


class AlpacaSection(CameraSection, _AlpacaDevice):
    """The camera where camera_type is alpaca (any system, over the network)."""


class SimulatorSection(OpenSection):
    """The camera where camera_type is simulator: started inside the run, over loopback HTTP."""

    sensor: Text = key("demo", "Simulated sensor: demo (1 MP), bayer (colour) or qhy600m (61 MP).")
    time_scale: Positive = key(1.0, "How much faster time passes than in reality.")
    seed: CountOrZero = key(1, "Seed of the noise and the faults.")
    faults: Texts = key((), "Faults to simulate, as ostcal simulate --help lists them.")


class CoolingSection(OpenSection):
    """The cooler of the camera."""

    enable_cooling: Switch = key(False, "Cool the sensor before the first frame.")
    target_temperature: Celsius = key(-10.0, "Wanted sensor temperature.", "degrees C")
    wait_for_cooling: Switch = key(
        True,
        "Wait with the first frame until the temperature is reached. If it is not, ostcal asks at a terminal; without"
        " one, frames are taken and recorded with the temperature they had.",
    )
    cooling_timeout: Positive = key(600.0, "Longest wait for the temperature.", "seconds")
    stabilization_tolerance: Positive = key(
        1.0, "Distance from target_temperature at which it counts as reached.", "degrees C"
    )
    warmup_at_end: Switch = key(False, "Let the sensor warm up slowly after the last frame.")


class VideoSection(OpenSection):
    """The camera. The section may also be called camera; unknown keys are kept with a warning."""

    camera_type: CameraType = key("alpaca", "Driver of the camera.")
    ascom: Annotated[AscomSection, BeforeValidator(empty_is_default)] = AscomSection()
    alpaca: Annotated[AlpacaSection, BeforeValidator(empty_is_default)] = AlpacaSection()
    simulator: Annotated[SimulatorSection, BeforeValidator(empty_is_default)] = SimulatorSection()
    cooling: Annotated[CoolingSection, BeforeValidator(empty_is_default)] = CoolingSection()


class WorkflowSection(Section):
    """Order of work of ``ostcal workflow``."""

    masters_while_exposing: Switch = key(
        True,
        "Combine finished series while the camera takes the next, at low priority and with one core left free; the"
        " masters are the same as without.",
    )


class TlsSection(Section):
    """Certificates for a cluster with TLS: three PEM files, which the workers and the scheduler have too."""

    ca: Text | None = key(None, "Certificate of the authority that signed the others.")
    cert: Text | None = key(None, "Certificate of this side.")
    key: Text | None = key(None, "Its private key.")

    @field_validator("key")
    @classmethod
    def _all_or_none(cls, value: str | None, info: ValidationInfo) -> str | None:
        given = [*info.data.values(), value]
        if any(given) and not all(given):
            raise PydanticCustomError("order", "ca, cert and key belong together, or none of them", {"other": "ca"})
        return value


class ComputeSection(Section):
    """Where the work is done, and with how many workers and how much memory."""

    scheduler: Scheduler = key("threads", "Threads or processes of this computer, or a Dask cluster (distributed).")
    workers: Workers | None = key(
        None,
        "Number of threads or processes; null is one for each core, and one more thread, as some wait for the disk.",
    )
    memory_limit: MemorySize = key(
        4 << 30,
        "Memory of all processes of a run together, with distributed of each worker; a run that does not fit is"
        " refused.",
        "bytes",
    )
    address: Text | None = key(
        None,
        "Address of the Dask scheduler for distributed, such as tcp://10.0.0.5:8786 or tls://10.0.0.5:8786; null here"
        " and in the next two starts processes of this computer.",
    )
    scheduler_file: Text | None = key(None, "File that dask scheduler --scheduler-file wrote, instead of address.")
    cluster: ClusterStart = key(
        None,
        "A class with Dask's cluster interface, and its arguments: it is started for the run and closed with it."
        " Instead of address.",
    )
    worker_wait: Positive = key(
        60.0, "Longest wait for a worker, which may be in a queue: for the first, and when none is left.", "seconds"
    )
    tls: Annotated[TlsSection, BeforeValidator(empty_is_default)] = TlsSection()


class StorageSection(Section):
    """How series and masters are stored."""

    export_frames: Switch = key(False, "Write each captured frame as a FITS file too, beside its series.")
    verify: Switch = key(
        True, "Check the samples of stored frames while they are read; a damaged frame is named and left out."
    )
    strip_rows: StripRows = key(
        "auto",
        "Rows of an inner chunk of new series, and of the strips that masters are combined in; auto is 16 to 32 in"
        " series, by the size of the frame, and in masters as many as memory and cores ask for.",
        "rows",
    )
    compressor: Compressor = key(
        "auto",
        "Compression of stored frames; auto is lz4 as it is read fastest; lz4 makes bias and darks 10 to 30 % smaller,"
        " and zstd another 15 %.",
    )
    endpoint: Endpoint | None = key(
        None,
        "Server of s3:// locations, such as https://nas:9000; null is that of the environment (AWS_ENDPOINT_URL), or"
        " Amazon's.",
    )
    region: Text | None = key(None, "Its region; null is that of the environment (AWS_REGION), or us-east-1.")
    retries: Retries = key(
        5, "Times that a request to an object store is made again when network or server fail, with growing pauses."
    )
    timeout: Positive = key(30.0, "Longest time of one such request; larger objects go in parts of 8 MiB.", "seconds")

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
        "master_frames": MasterFramesSection,
        "quality": QualitySection,
        "video": VideoSection,
        "workflow": WorkflowSection,
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
    dark_capture, flat_capture, master_frames, quality, video, workflow, compute, storage : Section
        The sections, with the keys of ``docs/configuration.md`` as attributes; ``memory_limit`` is in bytes,
        ``binning`` is ``(x, y)``, directories are text as written and relative to the working directory.
    source : str or None
        The file they were read from.
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
    master_frames: MasterFramesSection = field(default_factory=MasterFramesSection)
    quality: QualitySection = field(default_factory=QualitySection)
    video: VideoSection = field(default_factory=VideoSection)
    workflow: WorkflowSection = field(default_factory=WorkflowSection)
    compute: ComputeSection = field(default_factory=ComputeSection)
    storage: StorageSection = field(default_factory=StorageSection)
    source: str | None = None
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
