"""The configuration: a YAML file, a mapping or options as validated values.

The meaning of each key is written once, in `sections` and `quality_sections`: the commented YAML file,
``docs/configuration.md`` and the error messages are made from them. Values go further down, never a `Config`.
"""

from ostcal.config.load import (
    digest,
    dump,
    load_config,
    load_sources,
    resolved_values,
    with_overrides,
    without_endpoint,
)
from ostcal.config.problems import PROBLEM_LIMIT
from ostcal.config.quality_sections import QualitySection
from ostcal.config.reference import KeyReference, SectionReference, describe_sections
from ostcal.config.schema import SCHEMA_FILE, config_schema
from ostcal.config.sections import CameraSection, Config, ConfigSource
from ostcal.config.showing import ShownValue, as_yaml, shown_values
from ostcal.config.sources import Flag, Sources, gather_sources
from ostcal.config.starts import STARTS
from ostcal.config.values import format_size, parse_size
from ostcal.config.yaml_file import FILE_LIMIT_BYTES

__all__ = [
    "FILE_LIMIT_BYTES",
    "PROBLEM_LIMIT",
    "SCHEMA_FILE",
    "STARTS",
    "CameraSection",
    "Config",
    "ConfigSource",
    "Flag",
    "KeyReference",
    "QualitySection",
    "SectionReference",
    "ShownValue",
    "Sources",
    "as_yaml",
    "config_schema",
    "describe_sections",
    "digest",
    "dump",
    "format_size",
    "gather_sources",
    "load_config",
    "load_sources",
    "parse_size",
    "resolved_values",
    "shown_values",
    "with_overrides",
    "without_endpoint",
]
