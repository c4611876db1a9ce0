"""What is set on the simulated camera before an exposure: gain, offset, mode, binning, and the part that is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ostcal.simulator.alpaca_device import (
    ACTION_NOT_IMPLEMENTED,
    INVALID_VALUE,
    AscomError,
    Getter,
    Setter,
    read_int,
    read_text,
    refuse,
)
from ostcal.simulator.exposing import Window
from ostcal.simulator.image_body import SHIFTS
from ostcal.simulator.options import GainMode, SimulatorOptions
from ostcal.simulator.sensor import SensorModel

GAIN_MAX = 300
UNITY_GAIN = 100
"""The gain at which the camera is the sensor model as it stands; a step is 0.1 dB, as in many CMOS cameras."""
OFFSET_MAX = 255
USUAL_OFFSET = 50
"""The offset at which the bias level is the sensor model's."""
ADU_PER_OFFSET = 2.0
MAX_BIN = 4

GAINS = {"Low": 0, "Standard": UNITY_GAIN, "High": 200}
OFFSETS = {"Low": 20, "Standard": USUAL_OFFSET, "High": 100}
"""Labels in index mode, each with its value."""
STANDARD_INDEX = 1

READOUT_MODES = ("Standard", "Low noise")
LOW_NOISE_SHARE = 0.6
LOW_NOISE_SLOWER = 3.0


class CameraSetup:
    """The settings of a camera, and the sensor that they make of the model."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._model = options.sensor_model()
        self._indexed = options.gain_mode is GainMode.INDEX
        self._shift = SHIFTS[options.image_element]
        self._readout_s = options.readout_s
        self._gain = STANDARD_INDEX if self._indexed else UNITY_GAIN
        self._offset = STANDARD_INDEX if self._indexed else USUAL_OFFSET
        self._mode = 0
        self._bin_x = self._bin_y = 1
        self._start_x = self._start_y = 0
        self._width, self._height = self._model.width, self._model.height

    def sensor(self) -> SensorModel:
        """Return the sensor at the present gain, offset and mode."""
        gain, offset = self._gain, self._offset
        if self._indexed:
            gain, offset = list(GAINS.values())[gain], list(OFFSETS.values())[offset]
        return replace(
            self._model,
            gain_e_per_adu=self._model.gain_e_per_adu * 10 ** ((UNITY_GAIN - gain) / 200),
            bias_level_adu=self._model.bias_level_adu + ADU_PER_OFFSET * (offset - USUAL_OFFSET),
            read_noise_e=self._model.read_noise_e * (LOW_NOISE_SHARE if self._mode else 1.0),
        )

    def readout_s(self) -> float:
        """Return the time from the end of the exposure to the image."""
        return self._readout_s * (LOW_NOISE_SLOWER if self._mode else 1.0)

    def window(self) -> Window:
        """Return the part to be read; raises `AscomError` if it is not on the sensor."""
        across, down = self._model.width // self._bin_x, self._model.height // self._bin_y
        if self._start_x + self._width > across or self._start_y + self._height > down:
            raise AscomError(
                INVALID_VALUE,
                f"the subframe of {self._width} x {self._height} at ({self._start_x}, {self._start_y}) is not on the "
                f"sensor, which has {across} x {down} pixels with binning {self._bin_x} x {self._bin_y}",
            )
        return Window(
            start_x=self._start_x,
            start_y=self._start_y,
            width=self._width,
            height=self._height,
            bin_x=self._bin_x,
            bin_y=self._bin_y,
        )

    def sections(self) -> dict[str, str]:
        """Return BIASSEC and TRIMSEC of the part to be read, as FITS writes sections, where there are any."""
        model, window = self._model, self.window()
        if not (model.prescan_columns or model.overscan_columns):
            return {}
        # A binned pixel that light reaches in part belongs to neither.
        first = -(-model.prescan_columns // window.bin_x) - window.start_x
        last = model.lit_columns.stop // window.bin_x - window.start_x
        behind = -(-model.lit_columns.stop // window.bin_x) - window.start_x
        before = model.prescan_columns // window.bin_x - window.start_x
        unlit = (behind, window.width) if model.overscan_columns else (0, before)
        kept = (max(first, 0), min(last, window.width))
        return {
            name: f"[{start + 1}:{stop},1:{window.height}]"
            for name, (start, stop) in (("BIASSEC", unlit), ("TRIMSEC", kept))
            if 0 <= start < stop
        }

    def action(self, name: str, _: str) -> str:
        """Return a section by its FITS keyword, "" where the part to be read has none."""
        if name.upper() not in self.actions():
            raise AscomError(ACTION_NOT_IMPLEMENTED, f"there is no action {name!r}")
        return self.sections().get(name.upper(), "")

    def actions(self) -> list[str]:
        """Return what `action` answers: a driver whose frames have overscan says where it is."""
        return ["BIASSEC", "TRIMSEC"] if self._model.prescan_columns or self._model.overscan_columns else []

    # Members

    def getters(self) -> dict[str, Getter]:
        """Return the members that read the settings."""
        model = self._model
        # Where the red pixel of the pattern RGGB is; a sensor without colours has no such place.
        red_x = red_y = refuse("the Bayer offset of a monochrome sensor")
        if model.bayer is not None:
            y, x = divmod(model.bayer.pattern.index("R"), 2)
            red_x, red_y = (lambda: x), (lambda: y)
        range_refused = refuse("the range of a gain or offset that is set by index") if self._indexed else None
        list_refused = None if self._indexed else refuse("a list of gains or offsets, which are set by value,")
        since_version: dict[int, dict[str, Callable[[], Any]]] = {
            1: {
                "binx": lambda: self._bin_x,
                "biny": lambda: self._bin_y,
                "canasymmetricbin": lambda: True,
                "maxbinx": lambda: MAX_BIN,
                "maxbiny": lambda: MAX_BIN,
                "cameraxsize": lambda: model.width,
                "cameraysize": lambda: model.height,
                "electronsperadu": lambda: self.sensor().gain_e_per_adu * 2**self._shift,
                "fullwellcapacity": lambda: min(model.full_well_e, model.max_adu * self.sensor().gain_e_per_adu),
                "maxadu": lambda: model.max_adu >> self._shift,
                "numx": lambda: self._width,
                "numy": lambda: self._height,
                "pixelsizex": lambda: model.pixel_size_um,
                "pixelsizey": lambda: model.pixel_size_um,
                "startx": lambda: self._start_x,
                "starty": lambda: self._start_y,
            },
            2: {
                "bayeroffsetx": red_x,
                "bayeroffsety": red_y,
                "canfastreadout": lambda: False,
                "fastreadout": refuse("FastReadout"),
                "gain": lambda: self._gain,
                "gainmin": range_refused or (lambda: 0),
                "gainmax": range_refused or (lambda: GAIN_MAX),
                "gains": list_refused or (lambda: list(GAINS)),
                "readoutmode": lambda: self._mode,
                "readoutmodes": lambda: list(READOUT_MODES),
                "sensorname": lambda: model.name,
                "sensortype": lambda: 0 if model.bayer is None else 2,
            },
            3: {
                "offset": lambda: self._offset,
                "offsetmin": range_refused or (lambda: 0),
                "offsetmax": range_refused or (lambda: OFFSET_MAX),
                "offsets": list_refused or (lambda: list(OFFSETS)),
            },
        }
        members = {
            name: Getter(read=read, since=version)
            for version, of_version in since_version.items()
            for name, read in of_version.items()
        }
        return members | {"supportedactions": Getter(read=self.actions, needs_connection=False)}

    def setters(self) -> dict[str, Setter]:
        """Return the members that change the settings."""
        gain_max = len(GAINS) - 1 if self._indexed else GAIN_MAX
        offset_max = len(OFFSETS) - 1 if self._indexed else OFFSET_MAX
        width, height = self._model.width, self._model.height
        return {
            "binx": self._number("BinX", "_bin_x", 1, MAX_BIN),
            "biny": self._number("BinY", "_bin_y", 1, MAX_BIN),
            "startx": self._number("StartX", "_start_x", 0, width - 1),
            "starty": self._number("StartY", "_start_y", 0, height - 1),
            "numx": self._number("NumX", "_width", 1, width),
            "numy": self._number("NumY", "_height", 1, height),
            "gain": self._number("Gain", "_gain", 0, gain_max, since=2),
            "offset": self._number("Offset", "_offset", 0, offset_max, since=3),
            "readoutmode": self._number("ReadoutMode", "_mode", 0, len(READOUT_MODES) - 1, since=2),
            "fastreadout": Setter(write=refuse("FastReadout"), parameters=(("FastReadout", read_text),), since=2),
            "action": Setter(
                write=self.action,
                parameters=(("Action", read_text), ("Parameters", read_text)),
                needs_connection=False,
            ),
        }

    def _number(self, name: str, attribute: str, lowest: int, highest: int, since: int = 1) -> Setter:
        """Return a member that sets a whole number within its limits."""

        def write(value: int) -> None:
            if not lowest <= value <= highest:
                raise AscomError(INVALID_VALUE, f"{name} {value} is not possible; it is {lowest} to {highest}")
            setattr(self, attribute, value)

        return Setter(write=write, parameters=((name, read_int),), since=since)
