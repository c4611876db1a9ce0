"""Configurations to begin with: short, commented, for frames that one has, for a camera and for a cluster."""

from __future__ import annotations

import types
from collections.abc import Mapping

from ostcal.config.schema import SCHEMA_FILE
from ostcal.vocabulary import Start

_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# The line above is for editors (VS Code with its YAML extension, Neovim, ...): they complete keys and mark mistakes.
# Keys that are left out have their defaults. ostcal config show lists all keys, ostcal config check checks this file.
# A Windows path is written in single quotes or with forward slashes: 'D:\\astro\\darks' or D:/astro/darks.
"""

_FRAMES = """
# Masters of frames that you have.  What would be made of them: ostcal .      Make it: ostcal masters

input:
  dirs: [.]                     # folders with bias frames, darks and flats, also mixed, with all folders below
  # kinds: {old/d: dark}        # for frames whose headers and names do not say what they are

master_frames:
  output_dir: master_frames     # masters, report and log
  rejection_method: sigma_clip  # or winsorized_sigma_clip, median, minmax, percentile, none
  sigma_threshold: 3
  min_frames: 3                 # smaller groups are left out
  normalization_method: mean    # the level of a flat that becomes 1: mean, median or max
  # format: both                # fits, xisf or both
"""

_CAMERA = """
# A camera over Alpaca.  Find it: ostcal cameras      Take darks and flats, make masters: ostcal workflow

video:
  camera_type: alpaca           # simulator tries everything without a camera
  alpaca:
    host: 127.0.0.1
    port: 11111
    device_id: 0                # or camera_name: "QHY600M", as ostcal cameras lists it
    filter_wheel_id: null       # their numbers on the server, if you have them
    cover_calibrator_id: null
    gain: null                  # darks match only frames of the same gain, offset, binning and readout mode
    offset: null
  cooling:
    enable_cooling: false
    target_temperature: -10     # what the cooler reaches on your warmest night

dark_capture:
  num_darks: 40
  science_exposure_time: 60     # of your lights
  exposure_factors: [1]         # darks of 60 s; [1, 5] also of 300 s
  max_exposure: 600             # longer darks are not taken
  output_dir: darks/{night}

flat_capture:
  num_flats: 40
  filters: []                   # the names that the filter wheel uses, such as [L, R, G, B]
  output_dir: flats/{night}

master_frames:
  output_dir: master_frames     # masters, report and log
"""

_CLUSTER = """
# Masters of many frames on a Dask cluster whose workers reach the same folders.  Make them: ostcal masters

input:
  dirs: [.]                     # folders with bias frames, darks and flats; s3://bucket/prefix works too

master_frames:
  output_dir: master_frames     # masters, report and log

compute:
  scheduler: distributed
  memory_limit: 4GiB            # of each worker
  address: tcp://127.0.0.1:8786 # of the scheduler: dask scheduler; or, in its place, one of
  # scheduler_file: scheduler.json
  # cluster: {class: dask_jobqueue.SLURMCluster, cores: 8, memory: 16GB}
  worker_wait: 60               # seconds until the first worker must be there

# storage:
#   endpoint: https://nas:9000  # server of s3:// locations; credentials come from the environment
"""

STARTS: Mapping[Start, str] = types.MappingProxyType(
    {"frames": _HEAD + _FRAMES, "camera": _HEAD + _CAMERA, "cluster": _HEAD + _CLUSTER}
)
"""By what they are for."""
