"""The temperature that a sensor had: it decides over dark current. The set point only groups frames."""

from __future__ import annotations

import statistics
from dataclasses import replace

from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.groups import Group

STEADY_C = 0.3
"""A cooled sensor strays less from its set point: no dark goes before another one for it."""


def sensor_temperature_c(set_c: float | None, measured_c: float | None) -> float | None:
    """Return the measured temperature, else the set point.

    Of a camera with a set point it is rounded to 0.1 C: the frames of a regulated sensor have few temperatures then.
    """
    if measured_c is None or set_c is None:
        return set_c if measured_c is None else measured_c
    return round(measured_c, 1) + 0.0  # no -0.0


def sensor_key(group: Group) -> GroupKey:
    """Return the key of a group with the temperature that its frames had: the median, as its master records it."""
    measured_c = [f.metadata.ccd_temperature_c for f in group.frames if f.metadata.ccd_temperature_c is not None]
    set_c = {f.metadata.set_temperature_c for f in group.frames}
    if not measured_c or len(set_c) > 1:
        return group.key
    return replace(group.key, temperature_c=sensor_temperature_c(set_c.pop(), statistics.median(measured_c)))
