"""What a simulated observatory is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ostcal.errors import ConfigError
from ostcal.simulator.sensor import SENSORS, SensorModel


class GainMode(StrEnum):
    """How gain and offset are set."""

    VALUE = "value"
    INDEX = "index"


class ImageElement(StrEnum):
    """Type of the pixels on the wire."""

    UINT16 = "uint16"
    INT32 = "int32"
    INT16 = "int16"
    BYTE = "byte"


class Twilight(StrEnum):
    """How the sky changes."""

    DUSK = "dusk"
    DAWN = "dawn"


class CoverKind(StrEnum):
    """What stands before the telescope."""

    FLIP_FLAT = "flip-flat"
    """A cover with a panel in it: lit when closed, out of the way when open."""
    PANEL = "panel"
    """A panel without a cover."""
    COVER = "cover"
    """A cover without a panel."""
    NONE = "none"


class MountKind(StrEnum):
    """How the mount can be told where to point."""

    ANY = "any"
    """By altitude and azimuth, and by right ascension and declination."""
    EQUATORIAL = "equatorial"
    """By right ascension and declination alone."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """What shines into the telescope, in electrons per second in a pixel of response 1."""

    sky_e_per_s: float = 20_000.0
    """A steady sky, or a lit wall: the demo sensor is at half of its range in 2 s."""
    panel_e_per_s: float = 50_000.0
    """The panel at its highest brightness."""
    twilight: Twilight | None = None
    """Instead of the steady sky, one that falls (or rises) e-fold every `twilight_fold_s`."""
    twilight_fold_s: float = 180.0
    """A clear sky loses a magnitude in two to three minutes."""
    twilight_start_e_per_s: float | None = None
    """Brightness when the first frame is exposed to it; 200 000 at dusk and 200 at dawn by default."""
    sky_gradient_per_deg2: float = 0.0
    """How uneven the sky is: its relative slope per degree grows by this with each degree from the null point of the
    twilight sky. With 0.0005 it is 2 % per degree at 40 degrees; 0 is an even sky."""
    stars_per_deg2: float = 0.0
    """Stars in the sky before the mount; 0 is none."""
    field_deg: float = 1.0
    """Width of the field of view."""


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """A simulated observatory; every default is a camera in good order on a free port of this machine."""

    sensor: str | SensorModel = "demo"
    """One of `SENSORS`, or a model."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    discovery: bool = False
    discovery_port: int = 32227
    time_scale: float = 1.0
    """Simulated seconds in a real one."""
    seed: int = 1
    """Of the noise, the drift and the faults; the sensor has a seed of its own."""
    faults: tuple[str, ...] = ()
    """``NAME[@METHOD][:WHEN]`` each, see `ostcal.simulator.faults`."""
    gain_mode: GainMode = GainMode.VALUE
    image_element: ImageElement = ImageElement.UINT16
    shutter: bool = True
    cover: CoverKind = CoverKind.FLIP_FLAT
    mount: MountKind = MountKind.ANY
    light: Light = field(default_factory=Light)
    fast: bool = False
    """Noise from a stock instead of physics for each pixel, see `ostcal.simulator.exposing`."""
    interface_version: int = 4
    """Of the camera, 1 to 4: members that came later do not exist."""
    exposure_min_s: float = 0.0001
    bias_below_minimum: bool = True
    """Whether a dark may be shorter than `exposure_min_s`, as the standard says; some cameras refuse."""
    readout_s: float = 0.5
    ambient_c: float = 18.0

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        self.sensor_model()
        if not 1 <= self.interface_version <= 4:
            raise ConfigError(f"interface version {self.interface_version} does not exist for cameras; it is 1 to 4")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} cannot be used; it must be 0 (a free one) to 65535")

    def sensor_model(self) -> SensorModel:
        """Return the sensor; raises `ConfigError` if its name is unknown."""
        if isinstance(self.sensor, SensorModel):
            return self.sensor
        if self.sensor not in SENSORS:
            raise ConfigError(f"unknown sensor {self.sensor!r}; the sensors are: {', '.join(SENSORS)}")
        return SENSORS[self.sensor]
