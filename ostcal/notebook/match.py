"""`Match`: the masters of a light, and why they were chosen."""

from __future__ import annotations

from dataclasses import dataclass

from ostcal.displays import facts_table
from ostcal.frames import FrameMetadata
from ostcal.library.find import LibraryMaster
from ostcal.notebook.master import Master
from ostcal.science.match_distance import distances_of
from ostcal.science.matched import MatchedMasters, science_key


@dataclass(frozen=True, kw_only=True, repr=False)
class Match:
    """The masters that a light would be calibrated with.

    Attributes
    ----------
    darks : tuple of (Master, float)
        What is subtracted: masters and their weights. Most often one dark with the weight 1; none where the step is
        left out.
    flat : Master or None
        What is divided by; ``None`` where the step is left out.
    bias : Master or None
        A bias that fits: the level that photon noise counts from. It is not subtracted besides.
    reasons : tuple of str
        A line for each step: what is done with which master, and how far that is from the light.
    warnings : tuple of str
        What ``ostcal calibrate`` would warn of.
    """

    darks: tuple[tuple[Master, float], ...]
    flat: Master | None
    bias: Master | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def dark(self) -> Master | None:
        """The master that is subtracted as it is; ``None`` where there is none, or it is made of several."""
        return self.darks[0][0] if len(self.darks) == 1 and self.darks[0][1] == 1.0 else None

    def __repr__(self) -> str:
        warnings = [f"warning: {line}" for line in self.warnings]
        return "\n".join(["<Match", *(f"  {line}" for line in (*self.reasons, *warnings)), ">"])

    def _repr_html_(self) -> str:
        steps = [line.partition(": ") for line in self.reasons]
        rows = [(step, text) for step, _, text in steps] + [("warning", line) for line in self.warnings]
        return facts_table(rows)


def match_of(chosen: MatchedMasters, metadata: FrameMetadata) -> Match:
    """Return what was chosen for a light, with the reasons."""
    dark, flat, bias = chosen.dark, chosen.flat, chosen.bias
    parts = dark.parts if dark is not None else ()
    reasons = ["dark: left out" if dark is None else f"dark: {dark.description}"]
    reasons += [f"  {part.master.record.name}: {_distance(part.master, chosen, metadata)}" for part in parts]
    reasons.append(
        "flat: left out" if flat is None else f"flat: {flat.record.name}: {_distance(flat, chosen, metadata)}"
    )
    return Match(
        darks=tuple((Master(part.master), part.weight) for part in parts),
        flat=Master(flat) if flat is not None else None,
        bias=Master(bias) if bias is not None else None,
        reasons=tuple(reasons),
        warnings=(*chosen.warnings, *chosen.notes),
    )


def _distance(master: LibraryMaster, chosen: MatchedMasters, metadata: FrameMetadata) -> str:
    """Say how far a master is from a light in settings and time."""
    distances = distances_of(science_key(metadata), master.at_sensor_temperature.key)
    apart = [
        f"{value:+g} {unit}"
        for value, unit in (
            (distances.exposure_time_s, "s"),
            (distances.temperature_c, "C"),
            (distances.rotation_deg, "deg"),
            (distances.gain, "gain"),
            (distances.offset, "offset"),
        )
        if value
    ]
    unrecorded = [f"does not record {', '.join(distances.unrecorded)}"] if distances.unrecorded else []
    observed, taken_at = master.record.observed, chosen.taken_at
    age = []
    if observed is not None and taken_at is not None:
        days = observed.age_days(taken_at)
        age = [f"taken {abs(days):.1f} days {'before' if days >= 0 else 'after'} the light"]
    return "; ".join([", ".join(apart) if apart else "settings as of the light", *unrecorded, *age])
