"""What goes wrong, and when: the faults of a simulated server.

A fault is written ``NAME``, ``NAME:WHEN``, ``NAME@METHOD`` or ``NAME@METHOD:WHEN``. WHEN is a probability from 0 to 1,
``once`` (the first opportunity), or ``afterN`` (once, when N opportunities have passed); without it the fault always
happens. METHOD, for ``drop``, ``http500`` and ``silence``, is the Alpaca method that they hit (``startexposure``), or
``any``; without it they hit the download of the image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ostcal.errors import ConfigError

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "drop": "the connection is dropped instead of an answer",
        "http500": "the server answers HTTP 500",
        "silence": "the server takes the request and never answers",
        "slow": "the body of the image trickles: 1/64 of it in a second",
        "short": "half of the body of the image comes, then the connection ends",
        "garbage": "random bytes where ImageBytes should be",
        "huge": "the header of the image claims 60000 x 60000 pixels",
        "ascom-error": "the download answers ASCOM error 0x500",
        "wrong-size": "the image is one column narrower than was asked",
        "json-only": "the image comes as JSON although ImageBytes was asked for",
        "never-ready": "the exposure never ends; it can be aborted",
        "late-ready": "the image is ready 17 s after its time",
        "exposure-error": "the exposure ends in camera state Error, without an image",
        "busy-at-start": "StartExposure is refused",
        "connect-refused": "connecting is refused, as if another program held the camera",
        "cooler-miss": "the cooler, switched on, stays 3 degrees above its set point",
        "slew-endless": "the mount slews for ever; the slew can be aborted",
        "slew-misses": "the mount stops 3 degrees below its goal",
    }
)
"""Every fault by name, with what it does."""

_ANY_METHOD = frozenset({"drop", "http500", "silence"})


@dataclass(frozen=True, kw_only=True)
class FaultRule:
    """One fault and when it happens."""

    name: str
    method: str = "imagearray"
    """The Alpaca method that it hits, or ``any``; used by faults of the transport only."""
    probability: float = 1.0
    after: int | None = None
    """It happens once, when so many opportunities have passed; ``None`` is every time, with the probability."""

    @classmethod
    def parse(cls, text: str) -> FaultRule:
        """Read ``NAME[@METHOD][:WHEN]``; raises `ConfigError` for what cannot be read."""
        target, _, when = text.strip().partition(":")
        name, _, method = target.partition("@")
        if name not in FAULTS:
            raise ConfigError(f"unknown fault {name!r}; the faults are: {', '.join(FAULTS)}")
        if method and name not in _ANY_METHOD:
            raise ConfigError(f"fault {text!r}: only {', '.join(sorted(_ANY_METHOD))} can be aimed at a method")
        method = method.lower() or "imagearray"
        if when == "once":
            return cls(name=name, method=method, after=0)
        if when.startswith("after") and when[5:].isdecimal():
            return cls(name=name, method=method, after=int(when[5:]))
        try:
            probability = float(when) if when else 1.0
        except ValueError:
            probability = -1.0
        if not 0 <= probability <= 1:
            raise ConfigError(f"fault {text!r}: {when!r} is none of: a probability from 0 to 1, once, afterN (after3)")
        return cls(name=name, method=method, probability=probability)


class FaultPlan:
    """Decides at each opportunity whether a fault happens; the same seed decides the same."""

    def __init__(self, rules: Iterable[FaultRule], seed: int) -> None:
        self._rules = tuple(rules)
        self._generators = [np.random.default_rng([seed, 0xFA17, number]) for number in range(len(self._rules))]
        self._passed = [0] * len(self._rules)
        self.happened: Counter[str] = Counter()
        """How often each fault has happened."""

    def happens(self, name: str, method: str = "imagearray") -> bool:
        """Return whether a fault happens at this opportunity."""
        happens = False
        for number, rule in enumerate(self._rules):  # all of them: each counts its opportunities and draws its numbers
            if rule.name != name or rule.method not in (method, "any"):
                continue
            passed = self._passed[number]
            self._passed[number] += 1
            if rule.after is not None:
                happens |= passed == rule.after
            else:
                happens |= bool(self._generators[number].random() < rule.probability)
        if happens:
            self.happened[name] += 1
        return happens
