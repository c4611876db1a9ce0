"""Every exception that ostcal raises on purpose, in one tree.

``OstcalError``
    ``ConfigError``       the YAML file or an option is wrong (exit code 2)
        ``MissingPackageError``  what was asked for needs a package that is not installed
    ``InputError``        frames, series or folders that cannot be used
        ``FrameError``    one frame cannot be used; the others can
            ``UnlikeFrameError``  one frame is unlike the others and is left out
        ``NoFramesError`` nothing to work on
    ``StorageError``      a store or file cannot be read or written
        ``UnreachableError``  an object store does not answer or refuses: what it holds is unknown
    ``PlanError``         the work cannot fit what it was given (memory)
    ``CombineError``      a master could not be made
    ``DeviceError``       a camera or another device refused, failed or fell silent

Each message is one line that names the file, key or device, the value, the limit and what to do.
"""


class OstcalError(Exception):
    """Base of all errors that ostcal raises on purpose.

    Examples
    --------
    >>> from ostcal import OstcalError, load_config
    >>> try:
    ...     load_config({"master_frames": {"min_frames": 0}})
    ... except OstcalError as error:
    ...     print(error)
    configuration: master_frames.min_frames: 0 is not allowed; write a whole number of at least 1
    """


class ConfigError(OstcalError):
    """A configuration file, key or option is wrong."""


class MissingPackageError(ConfigError):
    """A command, key or function needs a package that is not installed; the message names the extra that has it."""


class InputError(OstcalError):
    """Frames, series or folders that cannot be used."""


class FrameError(InputError):
    """One frame cannot be used; it is left out with a warning, and the others are used.

    Attributes
    ----------
    place : str
        The frame, as a file or ``series#index``, if the error came up while frames were combined; else empty.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class UnlikeFrameError(FrameError):
    """One frame turned out to be unlike the others while they were combined; they are combined again without it."""


class NoFramesError(InputError):
    """No usable frames were found where they were looked for."""


class StorageError(OstcalError):
    """A store or file cannot be read or written."""


class UnreachableError(StorageError):
    """An object store does not answer or refuses; a frame there is not damaged, so nothing is made without it."""


class PlanError(OstcalError):
    """The work cannot fit the memory it was given."""


class CombineError(OstcalError):
    """A master could not be made."""


class DeviceError(OstcalError):
    """A camera or another device refused, failed or fell silent."""
