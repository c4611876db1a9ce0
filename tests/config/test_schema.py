"""The JSON schema for editors: all that loads as it is dumped keeps to it, and mistakes are marked."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest
import yaml

from ostcal.config import STARTS, Config, config_schema, describe_sections, dump, load_config, resolved_values
from support.folders import ROOT

SCHEMA = config_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


class _Yaml12(yaml.SafeLoader):
    """Reads as editors do: ``on`` is a word, and ``2e-05`` a number."""


_Yaml12.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool" or first in ("t", "f", "T", "F")
    ]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_Yaml12.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read(text: str) -> Any:
    return yaml.load(text, Loader=_Yaml12)  # noqa: S506 -- a safe loader


def keys_of(group: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a group that may be left out, or written as a word."""
    while "$ref" not in group:
        group = group["anyOf"][-1 if "$ref" in group["anyOf"][-1] else 0]
    found: dict[str, Any] = SCHEMA["$defs"][group["$ref"].rpartition("/")[2]]["properties"]
    return found


def test_it_is_a_schema() -> None:
    assert jsonschema_rs.meta.is_valid(SCHEMA)


@pytest.mark.parametrize("name", sorted(STARTS))
def test_what_init_writes_keeps_to_it(name: str) -> None:
    VALIDATOR.validate(read(STARTS[name]))


def test_the_commented_file_and_the_defaults_keep_to_it() -> None:
    VALIDATOR.validate(read((ROOT / "config_calibration_frames.yaml").read_text(encoding="utf-8")))
    VALIDATOR.validate(read(dump(Config())))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "telescope: {a: 1}",
        "master_frames:",
        "master_frames: {overscan: none, calibration: none, sigma_low: null, synthetic_bias: 10 * OFFSET}",
        'master_frames: {overscan: {section: "[1:8,:]", level: mean}, clip_iterations: null, quality_control: yes}',
        "camera: {alpaca: {gain: HCG, binning: [2, 1], usb_limit: 40}, cooling: }",
        "video: {camera_type: ascom, ascom: {binning: 2, gain: 100}, fan: on}",
        "compute: {memory_limit: 4GiB, workers: 3, cluster: {class: dask_jobqueue.SLURMCluster, cores: 8}}",
        "compute: {memory_limit: 2097152}",
        "input: {dirs: here, kinds: {a: dark}}",
        "input: {dirs: [a, b]}",
        'schedule: {when: "dusk -6", cadence_days: {bias: null}}',
        "hooks: {on: error, command: [a, b], url: https://example.org/x}",
        "dark_capture: {num_darks: auto, exposure_factors: [1, 4], matrix: {binnings: [1, [2, 2]], gains: [0, HCG]}}",
        "flat_capture: {num_flats: 12, filters: [L, R], twilight: true}",
        "storage: {strip_rows: 24, verify: off}",
    ],
)
def test_what_loads_keeps_to_it(text: str, tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = load_config(path)
    VALIDATOR.validate(read(text) or {})
    VALIDATOR.validate(read(dump(loaded)))


@pytest.mark.parametrize(
    "text",
    [
        "master_frames: {sigma_treshold: 3}",
        "master_frames: {rejection_method: sigmaclip}",
        "master_frames: {min_frames: 0}",
        "master_frames: {min_frames: many}",
        "master_frames: {overscan: given_away}",
        "master_frames: {overscan: {levels: mean}}",
        "master_frames: 3",
        "dark_capture: {max_exposure: 0}",
        "dark_capture: {exposure_factors: []}",
        "dark_capture: {num_darks: some}",
        "flat_capture: {target_count_rate: 1}",
        "camera: {camera_type: zwo}",
        "video: {alpaca: {port: 70000}}",
        "compute: {workers: 0}",
        "compute: {memory_limit: [1]}",
        "input: {kinds: {a: darks}}",
        "hooks: {on: [eror]}",
        "storage: {retries: 1000}",
    ],
)
def test_mistakes_are_marked(text: str) -> None:
    assert not VALIDATOR.is_valid(read(text))


def test_every_key_has_its_meaning_and_its_default() -> None:
    defaults: Any = resolved_values(Config())
    for section in describe_sections():
        keys: dict[str, Any] = SCHEMA["properties"]
        values = defaults
        for name in section.path:
            keys, values = keys_of(keys[name]), values[name]
        for key in section.keys:
            entry = keys[key.name]
            assert entry["description"].startswith(key.meaning), key.name
            assert entry["default"] == values[key.name]
            assert (f"[{key.unit}]" in entry["description"]) == bool(key.unit)
