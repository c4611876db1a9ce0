"""Words that the configuration, the rooms and the command line share. Rejection methods are in `engine.rejection`."""

from typing import Literal

FOUND_FILE = "config_calibration_frames.yaml"
"""The configuration that commands use if none is named and it is in the working directory."""
Start = Literal["frames", "camera", "cluster"]
"""What a configuration to begin with is for."""
HookEvent = Literal["series_finished", "master_made", "master_failed", "night_finished", "error"]
"""Events that hooks are told of."""
CameraType = Literal["ascom", "alpaca", "simulator"]
Calibration = Literal["auto", "none"]
"""What is subtracted from frames of a kind: the dark or bias that fits, or nothing."""
Step = Literal["darks", "flats", "masters", "all"]
"""Steps of `ostcal workflow`."""
Compressor = Literal["auto", "lz4", "zstd", "none"]
Scheduler = Literal["threads", "processes", "distributed"]
ClipCenter = Literal["auto", "mean", "median"]
ClipSpread = Literal["auto", "std", "mad", "noise"]
FlatScaling = Literal["mean", "median", "none"]
"""The level by which flats are scaled to one another."""
NormalizationMethod = Literal["mean", "median", "max"]
"""The level of a master flat that becomes 1."""
OverscanLevel = Literal["median", "mean"]
"""The level of one line across an overscan."""
OverscanAxis = Literal["rows", "columns"]
"""A level for each row, or for each column."""
OverscanFit = Literal["none", "mean", "median", "polynomial", "spline"]
"""What the levels of the lines are fitted with, along the lines."""
Session = Literal["night", "none", "hours"]
"""Which flats are different masters: of different nights, of sessions that are hours apart, or none."""
ContinueSeries = Literal["session", "always"]
"""Whether a series is continued only in the night in which it was begun."""
FlatMode = Literal["exposure", "brightness"]
"""What is sought for flats: the exposure, or the brightness of the panel at a fixed exposure."""
SkyPointing = Literal["as_is", "null_point"]
"""Where flats of the sky are taken."""
SkyTracking = Literal["as_is", "off", "on"]
"""Whether the mount tracks meanwhile."""
IfParked = Literal["refuse", "unpark"]
"""What is done with a parked mount."""
WhenDone = Literal["leave", "park", "return"]
"""What is done with the mount after the flats."""
DarkStrategy = Literal["missing", "aged", "all"]
"""Which darks are taken: those that no night has, older ones too, or all in each night."""
Prefer = Literal["nearest", "best"]
"""Which of several masters that fit is taken: the nearest in time, or the one of the best quality."""
Cubes = Literal["refuse", "frames"]
"""What FITS images of three axes are: refused, or stacks of frames."""
MasterFormat = Literal["fits", "xisf", "both"]
"""File format of masters."""
MasterNames = Literal["short", "complete"]
"""Words in the names of masters: those in which the masters of a run differ, or all."""
Flavour = Literal["adu", "pixinsight"]
"""Values and names of FITS masters: ADU for all programs, or between 0 and 1 for PixInsight."""
