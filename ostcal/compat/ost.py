"""Names of the OST scripts, for what they have become; each is imported when it is used first.

``from ostcal.compat.ost import ConfigManager, MasterFrameCreator`` in place of ``from config_manager import
ConfigManager`` and ``from calibration.master_frame_builder import MasterFrameCreator``: ``docs/migration.md`` says what
differs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostcal.build.api import MasterFrameCreator
    from ostcal.library.load_masters import load_master_dark, load_master_flat
    from ostcal.science.api import CalibrationApplier
    from ostcal.status import Status
    from ostcal.workflow import DarkCapture, FlatCapture

__all__ = [
    "CalibrationApplier",
    "ConfigManager",
    "DarkCapture",
    "FlatCapture",
    "MasterFrameCreator",
    "Status",
    "load_master_dark",
    "load_master_flat",
]

_REPLACED = {
    "VideoCapture": "from ostcal import open_camera",
    "success_status": "from ostcal import Status",
    "warning_status": "from ostcal import Status",
    "error_status": "from ostcal import Status",
    "MasterFrameError": "from ostcal import OstcalError",
    "DarkCaptureError": "from ostcal import OstcalError",
    "FlatCaptureError": "from ostcal import OstcalError",
}
"""Names whose counterpart is used in another way."""


class ConfigManager(dict[str, dict[str, Any]]):
    """Hold a configuration by sections that may be changed, as the scripts do before they hand it on.

    Parameters
    ----------
    config_path : str or path, optional
        The YAML file; ``None`` is the defaults.

    Raises
    ------
    ConfigError
        If the file is not there or a value is wrong.

    Examples
    --------
    >>> from ostcal.compat.ost import ConfigManager, MasterFrameCreator
    >>> config = ConfigManager()
    >>> config.get_master_config()["rejection_method"] = "minmax"
    >>> MasterFrameCreator(config=config).config.master_frames.rejection_method
    'minmax'
    """

    def __init__(self, config_path: str | os.PathLike[str] | None = None) -> None:
        from ostcal.config import load_config, resolved_values

        super().__init__(resolved_values(load_config(config_path)))

    def get_master_config(self) -> dict[str, Any]:
        """Return the section ``master_frames``; changes count."""
        return self["master_frames"]

    def get_dark_config(self) -> dict[str, Any]:
        """Return the section ``dark_capture``; changes count."""
        return self["dark_capture"]

    def get_flat_config(self) -> dict[str, Any]:
        """Return the section ``flat_capture``; changes count."""
        return self["flat_capture"]

    def get_video_config(self) -> dict[str, Any]:
        """Return the section ``video``; changes count."""
        return self["video"]


def __getattr__(name: str) -> Any:
    """Take a name from `ostcal`, or say what is used in its place."""
    if name in __all__:
        import ostcal

        return getattr(ostcal, name)
    if name in _REPLACED:
        raise ImportError(f"ostcal.compat.ost has no {name}; use {_REPLACED[name]} (docs/migration.md)")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
