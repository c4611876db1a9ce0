"""ostcal: take calibration frames of astronomical cameras, combine them into masters, calibrate science frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostcal._version import __version__

if TYPE_CHECKING:
    from ostcal.arrays.api import combine
    from ostcal.build.api import MasterFrameCreator
    from ostcal.config import Config, load_config
    from ostcal.errors import OstcalError
    from ostcal.library.load_masters import load_master_bias, load_master_dark, load_master_flat
    from ostcal.measure.masters.defects import Defect
    from ostcal.notebook.library import Library
    from ostcal.notebook.master import open_master
    from ostcal.notebook.series import open_series
    from ostcal.science.api import CalibrationApplier, calibrate
    from ostcal.status import Status
    from ostcal.workflow import CalibrationWorkflow, DarkCapture, FlatCapture, open_camera

__all__ = [
    "CalibrationApplier",
    "CalibrationWorkflow",
    "Config",
    "DarkCapture",
    "Defect",
    "FlatCapture",
    "Library",
    "MasterFrameCreator",
    "OstcalError",
    "Status",
    "__version__",
    "calibrate",
    "combine",
    "load_config",
    "load_master_bias",
    "load_master_dark",
    "load_master_flat",
    "open_camera",
    "open_master",
    "open_series",
]

_HOMES = {
    "CalibrationApplier": "ostcal.science.api",
    "CalibrationWorkflow": "ostcal.workflow",
    "Config": "ostcal.config",
    "DarkCapture": "ostcal.workflow",
    "Defect": "ostcal.measure.masters.defects",
    "FlatCapture": "ostcal.workflow",
    "Library": "ostcal.notebook.library",
    "MasterFrameCreator": "ostcal.build.api",
    "OstcalError": "ostcal.errors",
    "Status": "ostcal.status",
    "calibrate": "ostcal.science.api",
    "combine": "ostcal.arrays.api",
    "load_config": "ostcal.config",
    "load_master_bias": "ostcal.library.load_masters",
    "load_master_dark": "ostcal.library.load_masters",
    "load_master_flat": "ostcal.library.load_masters",
    "open_camera": "ostcal.workflow",
    "open_master": "ostcal.notebook.master",
    "open_series": "ostcal.notebook.series",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `ostcal --help` must not wait for numba and zarr."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ostcal' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
