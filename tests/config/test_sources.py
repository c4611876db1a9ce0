"""Where a command takes its values from: files in order, the environment, ``--set``; each knows its place."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostcal.config import Config, Flag, gather_sources, load_config, load_sources
from ostcal.config.sections import walk_keys
from ostcal.config.sources import FOUND_FILE, Sources, variable_of
from ostcal.errors import ConfigError
from support.amounts import amount


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def sources(
    files: Sequence[str] = (),
    settings: Sequence[str] = (),
    flags: Sequence[Flag] = (),
    environment: Mapping[str, str] | None = None,
) -> Sources:
    return gather_sources(files, settings, flags, environment or {})


def load(
    files: Sequence[str] = (), settings: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Config:
    return load_sources(sources(files, settings, environment=environment))


def lines_of(
    files: Sequence[str] = (), settings: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(files, settings, environment)
    return str(caught.value).splitlines()


# ---- which file ----


def test_nothing_given_is_the_defaults() -> None:
    found = sources()
    assert load_sources(found) == load_config()
    assert (found.files, found.said, found.options) == ((), (), ())


def test_the_file_in_the_working_directory_is_found_and_said() -> None:
    write(FOUND_FILE, "master_frames: {min_frames: 7}\n")
    found = sources()
    config = load_sources(found)
    assert (config.master_frames.min_frames, config.source) == (7, FOUND_FILE)
    assert found.said == (f"configuration: {FOUND_FILE}, found in the working directory",)
    assert config.options == ()  # other commands find it too


def test_a_named_file_counts_instead_of_the_one_that_would_be_found() -> None:
    write(FOUND_FILE, "master_frames: {min_frames: 7, sigma_low: 2}\n")
    found = sources([write("a.yaml", "master_frames: {min_frames: 8}\n")])
    config = load_sources(found)
    assert (config.master_frames.min_frames, config.master_frames.sigma_low) == (8, None)
    assert found.said == ()
    assert config.options == ("--config", "a.yaml")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"master_frames: {min_frames: 7, output_dir: m}")))
    config = load(["-"])
    assert (config.master_frames.min_frames, config.source) == (7, "-")
    assert config.options == ("--set", "master_frames.output_dir=m")  # standard input cannot be read again


def test_errors_of_standard_input_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"compute: {}\nmaster_frames: {min_frames: x}")))
    assert lines_of(["-"]) == [
        "standard input, line 2: master_frames.min_frames: x is not allowed; write a whole number of at least 1"
    ]


def test_two_standard_inputs_are_refused() -> None:
    assert lines_of(["-", "-"]) == ["--config - is given twice; standard input can be read once"]


def test_what_is_no_file() -> None:
    Path("night").mkdir()
    assert lines_of(["night"]) == [
        "night: is a folder, not a configuration; its frames are combined by: ostcal masters night"
    ]
    (line,) = lines_of(["missing.yaml"])
    assert line.startswith("missing.yaml: the configuration cannot be read: ")


# ---- merging ----

SITE = """\
compute: {workers: 2}
camera:
  alpaca: {host: a, port: 1, usb_limit: 40}
master_frames:
  sigma_low: 2
  sigma_high: 3
  overscan: {section: "[1:8,:]", level: mean}
input:
  kinds: {a: dark}
"""
NIGHT = """\
video:
  alpaca: {host: b}
  cooling:
master_frames:
  sigma_high: 4
  overscan: none
input:
  kinds: {b: flat}
quality:
"""


def test_files_are_merged_by_key_and_later_ones_win() -> None:
    found = sources([write("site.yaml", SITE), write("night.yaml", NIGHT)])
    config = load_sources(found)
    assert (config.compute.workers, config.master_frames.sigma_low, config.master_frames.sigma_high) == (2, 2, 4)
    assert (config.video.alpaca.host, config.video.alpaca.port) == ("b", 1)
    assert config.video.alpaca.extras == {"usb_limit": "40"}
    overscan = config.master_frames.overscan
    assert (overscan.section, overscan.level, overscan.source) == ("[1:8,:]", "mean", "none")
    assert config.input.kinds == {"b": "flat"}  # a value, not a group
    assert config.source == "site.yaml, night.yaml"
    assert config.options == ("--config", "site.yaml", "--config", "night.yaml")
    assert found.said == (
        "configuration: site.yaml, then night.yaml, replacing camera.alpaca.host (night.yaml, line 2),"
        " master_frames.sigma_high (night.yaml, line 5), input.kinds (night.yaml, line 8)",
    )


def test_files_that_say_nothing_twice() -> None:
    names = [write("a.yaml", "compute: {workers: 2}\n"), write("b.yaml", "master_frames: {n_low: 2}\n")]
    assert sources(names).said == ("configuration: a.yaml, then b.yaml",)


def test_problems_name_the_file_that_the_value_is_from() -> None:
    a = write("a.yaml", "dark_capture:\n  min_exposure: 5\ncompute: {workers: 0}\n")
    b = write("b.yaml", "\n\ndark_capture:\n  max_exposure: 4\nmount: 1\n")
    assert lines_of([a, b]) == [
        "a.yaml, line 3: compute.workers: 0 is not allowed; write a whole number from 1 to 4096, or null",
        "b.yaml, line 4: dark_capture.max_exposure: 4 is not allowed; it must be above min_exposure, which is 5.0",
    ]


def test_a_wrong_value_that_a_later_file_replaces_does_not_matter() -> None:
    names = [write("a.yaml", "compute: {workers: 0}\n"), write("b.yaml", "compute: {workers: 3}\n")]
    assert load(names).compute.workers == 3


# ---- the order of strength, and places ----


def test_the_stronger_place_counts() -> None:
    files = [
        write("a.yaml", "master_frames: {min_frames: 4, n_low: 4, n_high: 4, sigma_low: 4}\n"),
        write("b.yaml", "master_frames:\n  n_low: 5\n  n_high: 5\n  sigma_low: 5\n"),
    ]
    environment = {"OSTCAL__MASTER_FRAMES__N_HIGH": "6", "OSTCAL__MASTER_FRAMES__SIGMA_LOW": "6"}
    flags = [Flag(option="--sigma-low", values={"master_frames.sigma_low": "8"})]
    found = sources(files, ["master_frames.sigma_low=7"], flags, environment)
    m = load_sources(found).master_frames
    assert (m.min_frames, m.n_low, m.n_high, m.sigma_low) == (4, 5, 6, 8.0)
    places = [found.place_of(("master_frames", key)) for key in ("sigma_high", "min_frames", "n_low", "n_high")]
    assert [None if place is None else str(place) for place in places] == [
        None,
        "a.yaml, line 1",
        "b.yaml, line 2",
        "OSTCAL__MASTER_FRAMES__N_HIGH",
    ]
    assert str(found.place_of(("master_frames", "sigma_low"))) == "--sigma-low"
    assert load(files, ["master_frames.sigma_low=7"], environment).master_frames.sigma_low == 7


def test_the_place_of_a_group_in_a_word_and_of_a_camera() -> None:
    found = sources([write("a.yaml", "camera:\n  alpaca:\n    host: b\nmaster_frames: {overscan: none}\n")])
    assert str(found.place_of(("video", "alpaca", "host"))) == "a.yaml, line 3"
    assert str(found.place_of(("master_frames", "overscan", "source"))) == "a.yaml, line 4"
    assert found.place_of(("master_frames", "overscan", "level")) is None


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("master_frames.sigma_low=2.7", ("master_frames", "sigma_low"), 2.7),
        ("flat_capture.filters=[L, R]", ("flat_capture", "filters"), ("L", "R")),
        ("dark_capture.exposure_factors=[1, 4]", ("dark_capture", "exposure_factors"), (1.0, 4.0)),
        ("video.alpaca.gain=100", ("video", "alpaca", "gain"), 100),
        ('camera.alpaca.gain="100"', ("video", "alpaca", "gain"), "100"),
        ("compute.workers=null", ("compute", "workers"), None),
        ("input.dirs=[a, b c]", ("input", "dirs"), ("a", "b c")),
        ("input.dirs=one", ("input", "dirs"), ("one",)),
        ("input.kinds={x: dark}", ("input", "kinds"), {"x": "dark"}),
        ("master_frames.overscan=none", ("master_frames", "overscan", "source"), "none"),
        ("master_frames.overscan.level=mean", ("master_frames", "overscan", "level"), "mean"),
        ("master_frames.calibration=none", ("master_frames", "calibration", "flat"), "none"),
        ("master_frames.output_dir=C:\\astro\\new", ("master_frames", "output_dir"), "C:\\astro\\new"),
        ("master_frames.output_dir=a=b", ("master_frames", "output_dir"), "a=b"),
        ("compute.memory_limit=2GiB", ("compute", "memory_limit"), 2 << 30),
        (" compute.memory_limit =1.5 GB", ("compute", "memory_limit"), 1_500_000_000),
    ],
)
def test_a_setting_is_a_value_of_yaml(text: str, path: tuple[str, ...], value: object) -> None:
    found: object = load(settings=[text])
    for name in path:
        found = getattr(found, name)
    assert found == value


def test_the_last_of_equal_settings_counts() -> None:
    assert load(settings=["compute.workers=2", "compute.workers=3"]).compute.workers == 3


def test_a_key_of_a_camera_driver_can_be_set_with_a_warning() -> None:
    config = load(settings=["video.alpaca.usb_limit=40", "camera.fan=on"])
    assert config.video.alpaca.extras == {"usb_limit": "40"}
    assert config.video.extras == {"fan": "on"}
    assert sorted(config.warnings) == [
        "--set: video.alpaca.usb_limit: unknown key, left to the camera driver",
        "--set: video.fan: unknown key, left to the camera driver",
    ]


def test_variables_in_any_case_and_below_groups() -> None:
    config = load(
        environment={
            "OSTCAL__COMPUTE__WORKERS": "3",
            "ostcal__video__alpaca__host": "north",
            "OSTCAL__Camera__Alpaca__Port": "80",
            "OSTCAL__INPUT__DIRS": "[a, b]",
            "OSTCAL__MASTER_FRAMES__OVERSCAN": "none",
            "OSTCAL_OTHER": "x",
            "PATH": "y",
        }
    )
    assert (config.compute.workers, config.video.alpaca.host, config.video.alpaca.port) == (3, "north", 80)
    assert (config.input.dirs, config.master_frames.overscan.source) == (("a", "b"), "none")


def test_what_the_environment_sets_is_said_without_its_values() -> None:
    found = sources(environment={"OSTCAL__HOOKS__URL": "https://x/secret", "OSTCAL__COMPUTE__WORKERS": "3"})
    assert found.said == ("configuration: the environment sets OSTCAL__COMPUTE__WORKERS, OSTCAL__HOOKS__URL",)


def test_every_key_has_a_variable() -> None:
    paths = [path for path, _ in walk_keys()]
    assert len({variable_of(path) for path in paths}) == len(paths)
    for path in paths:
        defaults: object = load_config()
        for name in path:
            defaults = getattr(defaults, name)
        if isinstance(defaults, (int, float)) and not isinstance(defaults, bool):
            found: object = load(environment={variable_of(path): str(defaults)})
            for name in path:
                found = getattr(found, name)
            assert found == defaults


# ---- wrong options and variables ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("master_frames.min_frames", "--set master_frames.min_frames: write --set section.key=value, such as"
         " --set master_frames.sigma_low=2.7"),
        ("=3", "--set =3: write --set section.key=value, such as --set master_frames.sigma_low=2.7"),
        ("master_frames.sigma_treshold=3", "--set: master_frames.sigma_treshold: unknown key; did you mean"
         " master_frames.sigma_threshold?"),
        ("sigma_threshold=3", "--set: sigma_threshold: unknown key; did you mean master_frames.sigma_threshold?"),
        ("output_dir=3", "--set: output_dir: unknown key; write dark_capture.output_dir, flat_capture.output_dir or"
         " master_frames.output_dir"),
        ("masters.sigma_low=3", "--set: masters.sigma_low: unknown key; did you mean master_frames.sigma_low?"),
        ("xyz.abc=3", "--set: xyz.abc: unknown key; write section.key"),
        ("video.alpaca={host: a}", "--set: video.alpaca: is a group of keys; set one of them, such as"
         " video.alpaca.host, video.alpaca.port, video.alpaca.camera_name or video.alpaca.device_id"),
        ("compute=3", "--set: compute: is a group of keys; set one of them, such as compute.scheduler,"
         " compute.workers, compute.memory_limit or compute.address"),
        ("compute.workers=0", "--set: compute.workers: 0 is not allowed; write a whole number from 1 to 4096, or null"),
        ("compute.workers=[1", "--set: not valid YAML: expected ',' or ']', but got '<stream end>'; look here and above"
         " for a missing colon, quote, bracket or space"),
        ("master_frames.min_frames=", "--set: master_frames.min_frames: no value; write a whole number of at least 1,"
         " or leave the key out (the default is 3)"),
        ("master_frames.overscan=given", "--set: master_frames.overscan.source: given is not allowed; it needs section"
         ' or trim, such as "[1025:1056,:]"'),
        ("master_frames.rejection_method=sigmaclip", None),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line(text: str, expected: str | None) -> None:
    (line,) = lines_of(settings=[text])
    if expected is not None:
        assert line == expected
    else:
        assert line.startswith("--set: master_frames.rejection_method: sigmaclip is not allowed")
        assert line.endswith("did you mean sigma_clip?")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OSTCAL__MASTER_FRAMES__SIGMA_TRESHOLD", "3", "OSTCAL__MASTER_FRAMES__SIGMA_TRESHOLD: a variable of the"
         " environment that names no key; did you mean OSTCAL__MASTER_FRAMES__SIGMA_THRESHOLD?"),
        ("OSTCAL__MASTERS__SIGMA_LOW", "3", "OSTCAL__MASTERS__SIGMA_LOW: a variable of the environment that names no"
         " key; did you mean OSTCAL__MASTER_FRAMES__SIGMA_LOW?"),
        ("OSTCAL__XYZ", "3", "OSTCAL__XYZ: a variable of the environment that names no key; write"
         " OSTCAL__SECTION__KEY"),
        ("OSTCAL__", "3", "OSTCAL__: a variable of the environment that names no key; write OSTCAL__SECTION__KEY"),
        ("OSTCAL__COMPUTE__WORKERS", "many", "OSTCAL__COMPUTE__WORKERS: compute.workers: many is not allowed; write a"
         " whole number from 1 to 4096, or null"),
        ("OSTCAL__COMPUTE__WORKERS", "'3", "OSTCAL__COMPUTE__WORKERS: the quote opened here is not closed"),
        ("OSTCAL__COMPUTE__WORKERS", "1\n---\n2", "OSTCAL__COMPUTE__WORKERS: a second document begins here; leave one,"
         " without '---' between sections"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_one_line_that_names_it(name: str, value: str, expected: str) -> None:
    assert lines_of(environment={name: value}) == [expected]


def test_two_spellings_of_one_variable_are_refused() -> None:
    environment = {"OSTCAL__COMPUTE__WORKERS": "3", "ostcal__compute__workers": "4"}
    assert lines_of(environment=environment) == [
        "ostcal__compute__workers: sets compute.workers, as OSTCAL__COMPUTE__WORKERS does; keep one"
    ]


def test_all_problems_of_options_and_variables_are_named() -> None:
    lines = lines_of(settings=["a.b=1", "c"], environment={"OSTCAL__A": "1", "OSTCAL__B": "2"})
    assert [line.partition(":")[0] for line in lines] == ["OSTCAL__A", "OSTCAL__B", "--set", "--set c"]


@settings(max_examples=amount(150), deadline=None, derandomize=True)
@given(st.text(max_size=30), st.sampled_from([".".join(path) for path, _ in walk_keys()]))
def test_any_value_of_any_key_is_taken_or_refused_in_lines_that_name_the_option(value: str, key: str) -> None:
    assert all(line.startswith("--set: ") for line in refused([f"{key}={value}"]))


@settings(max_examples=amount(100), deadline=None, derandomize=True)
@given(st.text(max_size=30))
def test_any_setting_is_taken_or_refused(text: str) -> None:
    assert all(line.startswith("--set") for line in refused([text]))


def refused(settings: Sequence[str]) -> list[str]:
    """Return the lines of the error, if there is one."""
    try:
        load(settings=settings)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_a_directory_with_odd_characters_is_handed_on() -> None:
    for name in ("a: b", "a #b", "'x", "[x", "0123", "é", "long " * 40 + "x"):
        flags = [Flag(option="--out", values={"master_frames.output_dir": name})]
        options = load_sources(sources(flags=flags)).options
        assert options[0] == "--set"
        assert load(settings=[options[1]]).master_frames.output_dir == name
