"""Configuration: defaults, values, warnings, and errors that name file, line, key and what is allowed."""

from __future__ import annotations

import dataclasses
import logging
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ostcal.build.from_config import method_of
from ostcal.config import (
    FILE_LIMIT_BYTES,
    PROBLEM_LIMIT,
    Config,
    digest,
    dump,
    format_size,
    load_config,
    parse_size,
    resolved_values,
    with_overrides,
)
from ostcal.config.capture_plan import load_capture_plan
from ostcal.engine.rejection import METHODS, SigmaClip
from ostcal.errors import ConfigError
from ostcal.measure.limits import DefectLimits, FrameLimits, MasterLimits
from support.amounts import amount

Load = Callable[[str | bytes], Config]

TARGET = {"noise_share": 0.1, "light_exposure": None, "sky": 0.0, "min_frames": 5, "max_frames": 200}
DEFAULTS: dict[str, dict[str, Any]] = {
    "input": {"dirs": [], "kinds": {}},
    "dark_capture": {
        "num_darks": 40,
        "flat_exposure_time": None,
        "science_exposure_time": 5.0,
        "min_exposure": 0.001,
        "max_exposure": 60.0,
        "exposure_factors": [0.5, 1.0, 2.0, 4.0],
        "continue_series": "session",
        "strategy": "missing",
        "max_age_days": 30.0,
        "max_hours": None,
        "target": TARGET,
        "matrix": {
            "exposures": [],
            "gains": [],
            "offsets": [],
            "binnings": [],
            "readout_modes": [],
            "temperatures": [],
        },
        "output_dir": "darks",
    },
    "flat_capture": {
        "target_count_rate": 0.5,
        "count_tolerance": 0.1,
        "num_flats": 40,
        "min_exposure": 0.001,
        "max_exposure": 10.0,
        "exposure_step_factor": 1.5,
        "max_adjustment_attempts": 10,
        "output_dir": "flats",
        "continue_series": "session",
        "filters": [],
        "twilight": False,
        "panel_brightness": None,
        "mode": "exposure",
        "for_lights": None,
        "sky": {"pointing": "as_is", "tracking": "as_is", "dither_arcmin": 0.0},
        "mount": {
            "host": "127.0.0.1",
            "port": 11111,
            "device_id": None,
            "slew_timeout": 300.0,
            "if_parked": "refuse",
            "when_done": "leave",
            "min_altitude_deg": 20.0,
            "min_sun_distance_deg": 30.0,
        },
        "target": TARGET,
    },
    "master_frames": {
        "output_dir": "master_frames",
        "rejection_method": "sigma_clip",
        "sigma_threshold": 3.0,
        "sigma_low": None,
        "sigma_high": None,
        "clip_center": "auto",
        "clip_spread": "auto",
        "clip_iterations": 1,
        "min_keep": 1,
        "n_low": 1,
        "n_high": 1,
        "percentile_low": 0.1,
        "percentile_high": 0.1,
        "min_frames": 3,
        "normalization_method": "mean",
        "flat_scaling": "mean",
        "bayer_normalization": True,
        "quality_control": True,
        "save_individual_masters": True,
        "create_master_bias": True,
        "create_master_darks": True,
        "create_master_flats": True,
        "enable_calibration": True,
        "only_changed": True,
        "auto_load_masters": True,
        "calibration_tolerance": 0.1,
        "temperature_tolerance": 2.0,
        "overscan": {
            "section": None,
            "trim": None,
            "source": "auto",
            "axis": None,
            "level": "median",
            "fit": "none",
            "degree": 1,
        },
        "bias_temperature_tolerance": 20.0,
        "synthetic_bias": None,
        "calibration": {"bias": "auto", "dark": "auto", "flat": "auto", "light": "auto"},
        "per_session": False,
        "session": "night",
        "session_hours": 6.0,
        "window_days": 30.0,
        "max_frames": None,
        "rotation_tolerance": 1.0,
        "extensions": False,
        "cubes": "refuse",
        "lock_wait": 0.0,
        "flavour": "adu",
        "format": "fits",
        "names": "short",
    },
    "video": {
        "camera_type": "alpaca",
        "camera_name": None,
        "ascom": {
            "camera_name": None,
            "exposure_time": 1.0,
            "gain": None,
            "offset": None,
            "binning": 1,
            "readout_mode": None,
        },
        "alpaca": {
            "host": "127.0.0.1",
            "port": 11111,
            "camera_name": None,
            "device_id": 0,
            "filter_wheel_id": None,
            "cover_calibrator_id": None,
            "reply_timeout": 10.0,
            "silence_timeout": 60.0,
            "exposure_time": 1.0,
            "gain": None,
            "offset": None,
            "binning": 1,
            "readout_mode": None,
        },
        "simulator": {"sensor": "demo", "time_scale": 1.0, "seed": 1, "faults": []},
        "cooling": {
            "enable_cooling": False,
            "target_temperature": -10.0,
            "wait_for_cooling": True,
            "cooling_timeout": 600.0,
            "steady_time": 30.0,
            "stabilization_tolerance": 1.0,
            "warmup_at_end": False,
        },
    },
    "matching": {
        "max_age_days": {"bias": None, "dark": None, "flat": None},
        "prefer": "nearest",
        "strict": False,
        "max_scale_up": 2.0,
        "dark_temperature_model": True,
    },
    "quality": {
        "report": True,
        "use_failed": False,
        "leave_out": True,
        "full_scale_adu": None,
        "frames": asdict(FrameLimits()),
        "masters": asdict(MasterLimits()),
        "pixels": asdict(DefectLimits()),
    },
    "workflow": {"masters_while_exposing": True},
    "hooks": {
        "on": ["series_finished", "master_made", "master_failed", "night_finished", "error"],
        "command": [],
        "url": None,
        "timeout": 10.0,
        "retries": 3,
    },
    "schedule": {
        "when": ["18:00"],
        "time_zone": "local",
        "max_hours": 10.0,
        "cadence_days": {"bias": 7, "dark": 30, "flat": 1},
        "max_age_days": {"bias": 30.0, "dark": 90.0, "flat": 30.0},
        "sky_flats": {"sun_highest": 0.0, "sun_lowest": -12.0},
    },
    "site": {"latitude": None, "longitude": None, "elevation": 0.0},
    "safety": {"host": "127.0.0.1", "port": 11111, "device_id": None, "roof_id": None, "on_lost": "refuse"},
    "compute": {
        "scheduler": "threads",
        "workers": None,
        "memory_limit": "4GiB",
        "address": None,
        "scheduler_file": None,
        "cluster": None,
        "worker_wait": 60.0,
        "tls": {"ca": None, "cert": None, "key": None},
    },
    "storage": {
        "export_frames": False,
        "verify": True,
        "strip_rows": "auto",
        "compressor": "auto",
        "endpoint": None,
        "region": None,
        "retries": 5,
        "timeout": 30.0,
    },
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a text as the file ``config.yaml`` of the working directory."""
    monkeypatch.chdir(tmp_path)

    def _load(text: str | bytes) -> Config:
        Path("config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return load_config("config.yaml")

    return _load


def problems(load: Load, text: str | bytes) -> list[str]:
    """Return the lines of the error that a text must cause."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    return str(caught.value).splitlines()


# Defaults and ways to load


def test_defaults_are_those_promised() -> None:
    assert resolved_values(load_config()) == DEFAULTS
    assert load_config().compute.memory_limit == 4 * 1024**3
    assert load_config().video.alpaca.binning == (1, 1)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "~\n", "---\n", "\ufeff", "master_frames:\n", "video:\n  alpaca:\n"]
)
def test_an_empty_file_or_section_is_all_defaults(load: Load, text: str) -> None:
    assert digest(load(text)) == digest(load_config())


def test_one_key_in_one_section_leaves_the_rest_at_the_defaults(load: Load) -> None:
    config = load("flat_capture:\n  num_flats: 7\n")
    assert config.flat_capture.num_flats == 7
    assert resolved_values(config)["master_frames"] == DEFAULTS["master_frames"]
    assert config.source == "config.yaml"


def test_a_loaded_configuration_comes_back_as_it_is() -> None:
    config = load_config({"compute": {"workers": 2}})
    assert load_config(config) is config
    assert config.source is None


def test_a_configuration_cannot_be_changed() -> None:
    config = load_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.source = "x"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.master_frames.min_frames = 1


def test_a_dict_may_hold_numpy_numbers_and_paths() -> None:
    dark = {"num_darks": np.int64(3), "max_exposure": np.float64(9), "output_dir": Path("a"), "exposure_factors": (1,)}
    loaded = load_config({"dark_capture": dark}).dark_capture
    assert (loaded.num_darks, loaded.max_exposure, loaded.output_dir, loaded.exposure_factors) == (3, 9.0, "a", (1.0,))


def test_importing_config_loads_nothing_heavy() -> None:
    code = "import sys, ostcal.config; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"numpy", "dask", "distributed", "zarr", "numcodecs", "numba", "astropy", "click", "rich"}
    assert not heavy & set(done.stdout.split())


# Values


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("1E1", 10.0), ("010", 10.0), (".5", 0.5), ("+2.", 2.0), ('"4"', 4.0), ("1e+1", 10.0)],
)
def test_a_number_is_what_it_looks_like(load: Load, written: str, value: float) -> None:
    science = load(f"dark_capture:\n  science_exposure_time: {written}\n").dark_capture.science_exposure_time
    assert science == value
    assert isinstance(science, float)


def test_leading_zeros_do_not_make_octal_numbers(load: Load) -> None:
    assert load("dark_capture: {num_darks: 010, exposure_factors: [08, 1E0]}").dark_capture.num_darks == 10


@pytest.mark.parametrize("written", ["true", "True", "yes", "on", "ON", "Yes"])
def test_words_for_true(load: Load, written: str) -> None:
    assert load(f"master_frames: {{extensions: {written}}}").master_frames.extensions is True


@pytest.mark.parametrize("written", ["false", "no", "off", "Off", "FALSE"])
def test_words_for_false(load: Load, written: str) -> None:
    assert load(f"master_frames: {{quality_control: {written}}}").master_frames.quality_control is False


@pytest.mark.parametrize("written", ["no", "off", "12:30:00", "010", "2026-01-01", "true", "1e-3", "darks of mine"])
def test_text_stays_as_written_where_text_is_wanted(load: Load, written: str) -> None:
    assert load(f"dark_capture:\n  output_dir: {written}\n").dark_capture.output_dir == written


def test_none_is_a_method_and_not_null(load: Load) -> None:
    assert load("master_frames: {rejection_method: none, flat_scaling: none}").master_frames.rejection_method == "none"


@pytest.mark.parametrize(
    ("written", "value"),
    [("2", (2, 2)), ("[2, 1]", (2, 1)), ("[3, 3]", (3, 3))],
)
def test_binning_is_a_pair(load: Load, written: str, value: tuple[int, int]) -> None:
    assert load(f"video: {{ascom: {{binning: {written}}}}}").video.ascom.binning == value


@pytest.mark.parametrize(
    ("written", "value"),
    [("100", 100), ("1.5", 1.5), ("HCG", "HCG"), ('"100"', "100"), ("null", None), ("-3", -3), ("no", "no")],
)
def test_gain_is_a_number_or_a_label(load: Load, written: str, value: object) -> None:
    gain = load(f"video: {{alpaca: {{gain: {written}, readout_mode: High Gain}}}}").video.alpaca.gain
    assert gain == value
    assert type(gain) is type(value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("4GiB", 4 << 30),
        ("500MB", 500_000_000),
        ("1.5 GB", 1_500_000_000),
        ("0.5gib", 1 << 29),
        ("2T", 2 * 10**12),
        ("2097152", 2097152),
        ("64 MiB", 64 << 20),
    ],
)
def test_memory_sizes(load: Load, written: str, value: int) -> None:
    assert load(f"compute: {{memory_limit: {written}}}").compute.memory_limit == value
    assert parse_size(written) == value
    assert parse_size(format_size(value)) == value


@pytest.mark.parametrize("written", ["2.7", "0.0001", "999.9999", "3", "1000", "0.3", "2.70", "1e-4", "1.1"])
def test_thresholds_keep_the_decimal_that_was_written(load: Load, written: str) -> None:
    method = method_of(load(f"master_frames: {{sigma_threshold: 4.5, sigma_low: {written}}}"))
    assert isinstance(method, SigmaClip)
    assert (method.low, method.high) == (Fraction(written), Fraction(9, 2))


def test_merge_keys_and_aliases_work_and_own_keys_win(load: Load) -> None:
    masters = load(
        "shared: &shared {n_low: 2, n_high: 2}\nmore: &more {n_low: 9, min_frames: 9}\n"
        "master_frames:\n  n_high: 5\n  <<: [*shared, *more]\n"
    ).master_frames
    assert (masters.n_low, masters.n_high, masters.min_frames) == (2, 5, 9)


# What other programs and drivers have


def test_sections_of_other_programs_pass_silently(load: Load) -> None:
    config = load(
        "telescope: {focal_length: 500, a: 1, a: 2}\nmount: !driver eq6\noverlay: [1, 2]\n? [1]\n: x\n5: y\n"
        "dark_frames: {}\n"
    )
    assert config.warnings == ()
    assert digest(config) == digest(load_config())


# What ours are called by those who have not looked it up, names that are nearly ours, and near names with keys of ours.
LOOK_LIKE_OURS = {
    "bias_capture": ("{num_bias: 20}", "dark_capture"),
    "darks": ("/data/darks", "dark_capture"),
    "Darks": ("{num_darks: 20}", "dark_capture"),
    "dark": ("{num: 20}", "dark_capture"),
    "bias": ("{}", "dark_capture"),
    "flats": ("{num_flats: 20}", "flat_capture"),
    "flat": ("[a, b]", "flat_capture"),
    "masters": ("{method: median}", "master_frames"),
    "calibration": ("{method: median}", "master_frames"),
    "inputs": ("[/data]", "input"),
    "master_frame": ("{}", "master_frames"),
    "master-frames": ("{sigma_low: 3}", "master_frames"),
    "MASTER_FRAMES": ("", "master_frames"),
    "masterframes": ("{sigma_low: 3}", "master_frames"),
    "flat_captures": ("{num: 1}", "flat_capture"),
    "Dark-Capture": ("{}", "dark_capture"),
    "dark_frames": ("{num_darks: 20}", "dark_capture"),
    "computer": ("{workers: 2}", "compute"),
    "cameras": ("{camera_type: simulator}", "camera"),
    "hook": ("{command: [a]}", "hooks"),
    "storages": ("{verify: no}", "storage"),
    "scheduler": ("{cadence_days: {dark: 3}}", "schedule"),
    "flatts": ("{num_flats: 20}", "flat_capture"),
    "frames": ("{dirs: [/data]}", "input"),
    "cooling": ("{enable_cooling: true, target_temperature: -10}", "video.cooling"),
    "simulator": ("{sensor: demo}", "video.simulator"),
}


@pytest.mark.parametrize("name", LOOK_LIKE_OURS)
def test_a_section_that_looks_like_ours_is_an_error_with_the_name_that_is_meant(load: Load, name: str) -> None:
    written, meant = LOOK_LIKE_OURS[name]
    (line,) = problems(load, f"mount: 1\n{name}: {written}\n")
    assert line.startswith(f"config.yaml, line 2: {name}: no section has this name; did you mean {meant}")
    assert ("input.dirs" in line) == (meant in ("dark_capture", "flat_capture"))


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("computer", "{name: north}", "compute"),
        ("scheduler", "{}", "schedule"),
        ("cameras", "[a, b]", "camera"),
        ("light_capture", "{num_lights: 9, output_dir: lights, min_exposure: 1}", "flat_capture"),
    ],
)
def test_a_near_name_without_a_key_of_ours_is_pointed_out(
    load: Load, name: str, written: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = load(f"mount: 1\n{name}: {written}\n")
    expected = f"config.yaml, line 2: {name}: ignored, because no section has this name; did you mean {meant}?"
    assert config.warnings == (expected,)
    assert caplog.messages == [expected]


@pytest.mark.parametrize(
    "name",
    [
        "telescope",
        "mount",
        "overlay",
        "logging",
        "frame_processing",
        "plate_solve",
        "filters",
        "guiding",
        "dark_frames",
        "frames",
        "cooling",
        "alpaca",
    ],
)
def test_other_sections_with_keys_of_their_own_pass(load: Load, name: str) -> None:
    assert load(f"{name}: {{output: 3, device: x}}\n").warnings == ()


def test_a_key_outside_its_section_is_pointed_out(load: Load) -> None:
    assert load("sigma_threshold: 2\n").warnings == (
        "config.yaml, line 1: sigma_threshold: ignored, because it is outside a section; it is a key of master_frames",
    )


def test_camera_is_another_name_of_video(load: Load) -> None:
    assert load("camera: {camera_type: simulator}").video.camera_type == "simulator"
    assert problems(load, "camera: {}\nvideo: {}\n") == [
        "config.yaml, line 1: camera: given as video and camera, two names of one section; keep one"
    ]


def test_unknown_keys_of_the_camera_pass_with_a_warning_and_are_kept(load: Load) -> None:
    config = load("camera:\n  gain: 5\n  alpaca:\n    usb_limit: [40, {a: 1}]\n    prt: 1\n  fan: off\n")
    assert config.video.extras == {"gain": "5", "fan": "off"}
    assert config.video.alpaca.extras == {"usb_limit": ["40", {"a": "1"}], "prt": "1"}
    assert config.warnings == (
        "config.yaml, line 2: camera.gain: unknown key, left to the camera driver; it is a key of video.ascom and"
        " video.alpaca",
        "config.yaml, line 4: camera.alpaca.usb_limit: unknown key, left to the camera driver",
        "config.yaml, line 5: camera.alpaca.prt: unknown key, left to the camera driver; did you mean port?",
        "config.yaml, line 6: camera.fan: unknown key, left to the camera driver",
    )


def test_values_that_are_probably_not_meant_are_pointed_out(load: Load) -> None:
    config = load("compute:\n  address: tcp://a:1\nmaster_frames:\n  calibration_tolerance: 10\n")
    assert config.warnings == (
        "config.yaml, line 2: compute.address: not used, because scheduler is threads; distributed uses it",
        "config.yaml, line 4: master_frames.calibration_tolerance: 10.0 is 1000% of the exposure; 0.1 is 10%",
    )


# Errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("master_frames:\n  sigma_treshold: 3\n", "line 2: master_frames.sigma_treshold: unknown key; did you mean"
         " sigma_threshold?"),
        ("master_frames:\n  workers: 3\n", "line 2: master_frames.workers: unknown key; it is a key of compute"),
        ("storage: {output_dir: a}", "line 1: storage.output_dir: unknown key; it is a key of dark_capture,"
         " flat_capture and master_frames"),
        ("storage: {sigma_treshold: a}", "line 1: storage.sigma_treshold: unknown key; did you mean"
         " master_frames.sigma_threshold?"),
        ("storage: {xyz: a}", "line 1: storage.xyz: unknown key; the keys here are export_frames, verify, strip_rows,"
         " compressor, endpoint, region, retries and timeout"),
        ("master_frames: {rejection_method: sigmaclip}", "line 1: master_frames.rejection_method: sigmaclip is not"
         f" allowed; write {', '.join(list(METHODS)[:-1])} or {list(METHODS)[-1]}; did you mean sigma_clip?"),
        ("\n\ndark_capture:\n\n  num_darks: 0", "line 5: dark_capture.num_darks: 0 is not allowed; write auto or a"
         " whole number of at least 1"),
        ("dark_capture: {num_darks: }", "line 1: dark_capture.num_darks: no value; write auto or a whole number of at"
         " least 1, or leave the key out (the default is 40)"),
        ("dark_capture:\n  min_exposure: 100", "line 2: dark_capture.max_exposure: 60.0 (the default) is not allowed;"
         " it must be above min_exposure, which is 100.0"),
        ("flat_capture:\n  min_exposure: 1\n  max_exposure: 1e0", "line 3: flat_capture.max_exposure: 1e0 is not"
         " allowed; it must be above min_exposure, which is 1.0"),
        ("compute: [1]", "line 1: compute: [1] is not allowed; write keys below it"),
        ("video: {cooling: yes}", "line 1: video.cooling: yes is not allowed; write keys below it"),
        ("storage: {compressor: !env X}", "line 1: storage.compressor: the tag !env is not understood; write the value"
         " itself"),
        ("master_frames:\n  n_low: 1\n  n_high: 1\n  n_low: 2", "line 4: master_frames.n_low: given twice, also on line"
         " 2; keep one"),
        ("compute: {}\nmount: 1\ncompute: {}", "line 3: compute: given twice, also on line 1; keep one"),
        ("camera:\n  alpaca:\n    port: 1\n    port: 2", "line 4: camera.alpaca.port: given twice, also on line 3; keep"
         " one"),
        ("storage: {<<: 3}", "line 1: storage.<<: only groups of keys can be merged"),
        ("storage: {? [a] : 3}", "line 1: storage: a key must be one word"),
    ],
)  # fmt: skip
def test_an_error_names_line_key_value_and_what_is_allowed(load: Load, text: str, expected: str) -> None:
    assert problems(load, text) == [f"config.yaml, {expected}"]


@pytest.mark.parametrize(
    ("section", "key", "written"),
    [("dark_capture", "num_darks", value) for value in ("1.5", "40.0", "true", "forty", "[1]", "{a: 1}", "-1", "1_0")]
    + [("dark_capture", "max_exposure", value) for value in (".inf", ".nan", "1e999", "-1", "5s", "9" * 70)]
    + [("dark_capture", "exposure_factors", value) for value in ("[]", "1", "[0]", "[1, a]", "[true]", "null")]
    + [("dark_capture", "output_dir", value) for value in ('""', '" "', '"a\\nb"', '"\\0"', '"\\uD800"', "[a]", "")]
    + [("flat_capture", "target_count_rate", value) for value in ("0", "1", "50", "-0.1")]
    + [("flat_capture", "exposure_step_factor", value) for value in ("1", "0.5")]
    + [("master_frames", "sigma_low", value) for value in ("0", "-1", "1000.1", "2.71828", "3 sigma", "1e-5")]
    + [("master_frames", "sigma_threshold", value) for value in ("null", "yes")]
    + [("master_frames", "clip_iterations", value) for value in ("0", "all")]
    + [("master_frames", "calibration_tolerance", value) for value in ("-0.1", "10%")]
    + [("master_frames", "extensions", value) for value in ("1", "0", "maybe", "[]", "")]
    + [("compute", "memory_limit", value) for value in ("4", "4 XB", "-4GiB", "9999999TB", "null", "1048576.5", "GiB")]
    + [("compute", "workers", value) for value in ("0", "99999", "all")]
    + [("storage", "strip_rows", value) for value in ("0", "automatic", "16.5")]
    + [("video", "camera_type", value) for value in ("zwo", "null", "[alpaca]")],
)
def test_a_wrong_value_is_refused_in_one_line(load: Load, section: str, key: str, written: str) -> None:
    (line,) = problems(load, f"{section}:\n  {key}: {written}\n")
    assert line.startswith(f"config.yaml, line 2: {section}.{key}: ")


@pytest.mark.parametrize(
    ("group", "key", "written"),
    [("alpaca", "port", "65536"), ("alpaca", "host", '""'), ("alpaca", "device_id", "-1")]
    + [("ascom", "binning", value) for value in ("0", "[1]", "[1, 2, 3]", "2x2", "[1, 1.5]", "true", "null", "65")]
    + [("ascom", "gain", value) for value in ("[1]", '""', "1e999")]
    + [("ascom", "readout_mode", value) for value in ("1.5", "-1")]
    + [("cooling", "target_temperature", value) for value in ("-300", "cold", "true")]
    + [("cooling", "cooling_timeout", "0")],
)
def test_a_wrong_value_of_the_camera_is_refused(load: Load, group: str, key: str, written: str) -> None:
    (line,) = problems(load, f"video:\n  {group}:\n    {key}: {written}\n")
    assert line.startswith(f"config.yaml, line 3: video.{group}.{key}: ")


def test_all_problems_are_named_at_once_in_the_order_of_the_file(load: Load) -> None:
    lines = problems(
        load,
        "storage: {compresor: zstd}\nmaster_frames:\n  min_frames: 4\n  min_frames: 2\n  n_low: x\nvideo:\n"
        "  alpaca: {port: x}\nflat_capture:\n  num_flats: x\n  max_exposure: 0.0001\n",
    )
    assert [line.split(": ")[0] for line in lines] == [f"config.yaml, line {n}" for n in (1, 4, 5, 7, 9, 10)]


def test_a_file_full_of_problems_lists_the_first_ones(load: Load) -> None:
    lines = problems(load, "storage:\n" + "".join(f"  k{n}: 1\n" for n in range(PROBLEM_LIMIT + 7)))
    assert len(lines) == PROBLEM_LIMIT + 1
    assert lines[-1] == "config.yaml: 7 more problems"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "line 1: a list at the top level; "),
        ("\nhello\n", "line 2: a single value at the top level; "),
        ("compute:\n\tworkers: 1\n", "line 2: a tab; YAML wants spaces here"),
        ("compute:\n  workers: 1\n\tscheduler: threads\n", "line 3: a tab; YAML wants spaces here"),
        ("a: 1\nb: 'x\nc: 2\n", "line 2: the quote opened here is not closed"),
        ("a: 1\n---\nb: 1\n", "line 2: a second document begins here; "),
        ("a: 1\n  b: 2\n", "line 2: not valid YAML: mapping values are not allowed here; "),
        ("a: *nowhere\n", "line 1: not valid YAML: found undefined alias 'nowhere'; "),
        ("a: [1\nb: 2\n", "line 2: not valid YAML: "),
        (b"a: 1\nb: \xe9\n", "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "line 1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"a: 1\r\nb: \x00", "line 2: character U+0000 cannot be in a YAML file"),
        ('a: 1\nb: "\\U00110000"\n', "line 2: not valid YAML: "),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1\n", "line 1: not valid YAML: "),
        ("[" * 5000, "line 1: nested deeper than 64 levels"),
        ("".join(" " * n + "a:\n" for n in range(100)), "line 64: nested deeper than 64 levels"),
        ("video: &a\n  x: *a\n", "line 1: more than 20000 values or 64 levels with all aliases written out; "),
    ],
)
def test_what_is_no_configuration_gives_one_line(load: Load, text: str | bytes, expected: str) -> None:
    (line,) = problems(load, text)
    assert line.startswith(f"config.yaml, {expected}")


def test_a_billion_laughs_are_refused(load: Load) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    rows.append("video: {x: *a11}")
    (line,) = problems(load, "\n".join(rows))
    assert "more than 20000 values" in line


def test_a_large_file_is_refused_before_it_is_parsed(load: Load) -> None:
    (line,) = problems(load, b"#" * (FILE_LIMIT_BYTES + 1))
    assert line.startswith(f"config.yaml: larger than {FILE_LIMIT_BYTES} bytes")


@pytest.mark.parametrize("path", ["nowhere.yaml", "", "a\0b", "."])
def test_a_file_that_cannot_be_read_is_named(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"the configuration cannot be read: \S") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [[1], 5, b"x", {1, 2}])
def test_what_is_no_source_of_a_configuration_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="it must be a file, a dict or a loaded configuration"):
        load_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"dark_capture": {5: 1}},
        {"compute": 5},
        {"compute": {"workers": 10**5000}},
        {"dark_capture": {"max_exposure": 10**5000}},
        {"dark_capture": {"max_exposure": float("nan")}},
        {"dark_capture": {"output_dir": b"x"}},
        {"dark_capture": {"num_darks": np.bool_(True)}},
        {"video": {"camera_type": []}},
        {"video": {"alpaca": {"gain": True}}},
        {"master_frames": {"sigma_low": object()}},
    ],
)
def test_a_wrong_dict_is_refused_in_one_line(config: dict[Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\Aconfiguration: [^\n]*\Z"):
        load_config(config)


# Options, dumps, digests


def test_overrides_replace_single_values() -> None:
    config = load_config({"master_frames": {"sigma_low": 2.5}, "camera": {"fan": 1}})
    changed = with_overrides(
        config,
        {"master_frames.rejection_method": "median", "master_frames.sigma_threshold": "2.7", "camera.alpaca.port": 80},
    )
    assert changed.master_frames.rejection_method == "median"
    assert changed.master_frames.sigma_threshold == 2.7
    assert changed.master_frames.sigma_low == 2.5
    assert changed.video.alpaca.port == 80
    assert changed.video.extras == {"fan": 1}
    assert changed.warnings == config.warnings
    assert config.master_frames.rejection_method == "sigma_clip"


def test_no_override_changes_nothing() -> None:
    config = load_config({"camera": {"alpaca": {"gain": "100", "binning": [2, 1]}, "fan": "1"}})
    assert with_overrides(config, {}) == config


def test_an_override_may_add_a_warning() -> None:
    config = load_config({"compute": {"scheduler": "distributed"}})
    changed = with_overrides(config, {"compute.scheduler": "threads", "compute.address": "tcp://a:1"})
    assert changed.warnings == ("option: compute.address: not used, because scheduler is threads; distributed uses it",)


def test_wrong_overrides_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        with_overrides(
            load_config(),
            {"master_frames.rejection_methd": "median", "master_frames.sigma_threshold": -1, "x": 1, "video": {}},
        )
    assert str(caught.value).splitlines() == [
        "option: master_frames.rejection_methd: unknown key; did you mean master_frames.rejection_method?",
        "option: x: unknown key; write section.key",
        "option: video: unknown key; write section.key",
        "option: master_frames.sigma_threshold: -1 is not allowed; write a number above 0, at most 1000, with at most 4"
        " decimals",
    ]


GNARLY = """\
# every trap in one file
dark_capture: {num_darks: 010, output_dir: "no", exposure_factors: [1, 1E0, .5]}
base: &base {n_low: 2}
master_frames:
  <<: *base
  sigma_low: 2.7
  quality_control: off
camera:
  alpaca:
    gain: "100"
    offset: 1e2
    binning: [2, 1]
    readout_mode: 12:30:00
  cooling: ~
  label: |
    two
    lines
compute: {memory_limit: 1.5 GB, workers: 2}
storage:
  ? strip_rows
  : 24
"""


def test_a_dump_loads_to_the_same_values(load: Load) -> None:
    config = load(GNARLY)
    again = load(dump(config))
    assert resolved_values(again) == resolved_values(config)
    assert digest(again) == digest(config)
    assert again.video.alpaca.gain == "100"
    assert again.video.alpaca.offset == 100.0


def test_the_digest_follows_values_and_not_spelling(load: Load) -> None:
    one = digest(load("compute: {memory_limit: 4GiB}\ncamera: {alpaca: {binning: 2}}"))
    two = digest(load("video:\n  alpaca:\n    binning: [2, 2]\ncompute:\n  memory_limit: 4294967296\n"))
    assert one == two
    assert re.fullmatch("[0-9a-f]{64}", one)
    assert digest(load("compute: {memory_limit: 5GiB}\n")) != digest(load_config())


# Anything at all gives a Config or a ConfigError

TOKENS = [
    *(b"\t", b"\n", b"  ", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"!x ", b"!!int ", b"|", b">", b"'", b'"', b"{", b"}"),
    *(b"[", b"]", b",", b"? ", b"%YAML 1.1\n", b"---\n", b"...\n", b"\xff", b"\x00", b"\\U00110000", b"\\uD800", b"#"),
    *(
        b"@",
        b"`",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\r",
        b"null",
        b"1e999",
        b"-",
        b".nan",
        b"=",
        b"%TAG ! t:%FF\n",
        b"!<x> ",
    ),
]


def mutated(text: bytes, generator: random.Random) -> bytes:
    """Insert, delete, overwrite or repeat a few bytes."""
    data = bytearray(text)
    for _ in range(generator.randint(1, 4)):
        place, kind = generator.randrange(len(data) + 1), generator.random()
        if kind < 0.5:
            data[place:place] = generator.choice(TOKENS)
        elif kind < 0.7:
            del data[place : place + generator.randint(1, 20)]
        elif kind < 0.8:
            data[place : place + 1] = bytes([generator.randrange(256)])
        else:
            start = generator.randrange(len(data) + 1)
            data[place:place] = data[start : start + generator.randint(1, 40)]
    return bytes(data)


def lines_of(config: Any) -> list[str]:
    """Return the lines of the error that loading raises; none if it loads to the same configuration twice."""
    try:
        loaded = load_config(config)
    except ConfigError as error:
        return str(error).splitlines()
    assert digest(with_overrides(loaded, {})) == digest(loaded)
    return []


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_give_a_configuration_or_lines_that_name_the_file(tmp_path: Path, seed: int) -> None:
    generator, path = random.Random(seed), tmp_path / "config.yaml"
    for _ in range(250):
        path.write_bytes(mutated(GNARLY.encode("utf-8"), generator))
        assert all(line.startswith(f"{path}, line ") for line in lines_of(path)), path.read_bytes()


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["4GiB", "auto"])
)
NAMES = st.sampled_from([*DEFAULTS, "camera", *DEFAULTS["video"], *DEFAULTS["compute"], *DEFAULTS["storage"]])
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=4)
)


@settings(max_examples=amount(300), deadline=None, derandomize=True)
@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_any_dict_gives_a_configuration_or_an_error(values: dict[str, Any]) -> None:
    assert all(line.startswith("configuration: ") for line in lines_of(values))


@pytest.mark.parametrize("port", ["99999", "65536", "0", "x1"])
def test_a_web_hook_has_a_port_that_there_is(port: str) -> None:
    with pytest.raises(ConfigError, match=r"hooks\.url: this value is not allowed; .* port up to 65535") as caught:
        load_config({"hooks": {"url": f"https://user:token@example.org:{port}/hook"}})
    assert "token" not in str(caught.value)
    for address in ("https://example.org:65535/hook", "http://[::1]:8080", "https://example.org/hook"):
        assert load_config({"hooks": {"url": address}}).hooks.url == address


def test_a_plan_that_is_missing_is_called_a_plan(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: the plan cannot be read: No such file"):
        load_capture_plan(tmp_path / "none.yaml")
