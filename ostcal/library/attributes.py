"""What is stored with a master in the zarr master store: enough to find it, match it and say what made it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Annotated, Any

from ostcal.codec import between, from_values, matching, to_values
from ostcal.engine.tasks import JobResult
from ostcal.errors import StorageError
from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics, Side
from ostcal.inputs.grouping import Group, GroupKey
from ostcal.inputs.observed import Observed
from ostcal.inputs.sensor_temperature import sensor_temperature_c
from ostcal.library.in_time import Merit
from ostcal.library.master_header import Card, Provenance, observed_in
from ostcal.naming import DAY_S

AGAINST_PREVIOUS = ("level against previous", "pixels against previous", "shape against previous", "new hot pixels")
"""Checks of a master against the one taken before it."""


@dataclass(frozen=True, kw_only=True)
class MasterRecord:
    """A master on disk, as far as matching needs it."""

    name: str
    key: GroupKey
    made_at: datetime | None
    calibration_id: str
    verdict: str | None = None
    """``pass``, ``warn`` or ``fail`` of its quality control; ``None`` if there was none."""
    n_frames: int | None = None
    """Frames combined; ``None`` where it is not recorded."""
    recipe: str = ""
    """SHA-256 over all that decided it; "" where it is not recorded."""
    files: tuple[str, ...] = ()
    """Names of its FITS files."""
    observed: Observed | None = None
    """When its frames were taken; ``None`` where it is not recorded."""
    measured_c: float | None = None
    """Temperature that its frames had, where they record a set point too; the key has the set point."""
    noise: float | None = field(default=None, compare=False)
    """Of a pixel, in ADU, of flats in units of their level; ``None`` where it is not recorded."""
    has_two_levels: bool = field(default=False, compare=False)
    """Whether its frames are a mixture of two levels, so that it is at neither (the check ``mixture`` failed)."""
    is_only_changed: bool = field(default=False, compare=False)
    """Whether all warnings are that it differs from the previous master: the camera changed, the master is no worse."""

    @cached_property
    def merit(self) -> Merit:
        """What decides between it and masters that fit as well."""
        return Merit.of_key(
            self.key,
            name=self.name,
            observed=self.observed,
            made_at=self.made_at,
            verdict="pass" if self.is_only_changed else self.verdict,
            noise=self.noise,
        )


def attributes_of(
    group: Group,
    result: JobResult,
    provenance: Provenance,
    cards: list[Card],
    history: list[str],
    quality: Mapping[str, Any] | None,
    camera: Mapping[str, Any] | None,
    files: Sequence[str],
) -> dict[str, Any]:
    """Return a master's attributes as JSON values."""
    key = group.key
    observed = Observed.of(frame.metadata for frame in group.frames)
    return {
        "frame_type": str(provenance.frame_type),
        "width": key.width,
        "height": key.height,
        "exposure_time_s": key.exposure_time_s,
        **to_values(key.settings),
        "states_binning": key.states_binning,
        "filter": key.filter_name,
        **to_values(key.optics),
        "temperature_c": key.temperature_c,
        "bayer_pattern": key.bayer_pattern,
        "bias_subtracted": key.bias_subtracted,
        "night": key.night.isoformat() if key.night else None,
        "session_start": key.session_start.astimezone(UTC).isoformat() if key.session_start else None,
        "noon_utc_s": key.noon_utc_s,
        "observed": to_values(observed) if observed is not None else None,
        "made_at": provenance.made_at.astimezone(UTC).isoformat(),
        "calibration_id": provenance.calibration_id,
        "input_digest": provenance.input_digest,
        "recipe": provenance.recipe,
        "files": list(files),
        "inputs": [frame.label for frame in group.frames],
        "darks": list(provenance.darks),
        "rejected_per_frame": list(result.rejected_per_frame),
        "n_samples": result.n_samples,
        "noise_adu": result.noise.noise_adu if result.noise_measured else None,
        "frame_levels_adu": list(result.levels.levels_adu) if result.levels is not None else None,
        "normalization_levels_adu": result.normalization_levels,
        "cards": [list(card) for card in cards],
        "history": history,
        "verdict": None if quality is None else quality["verdict"],
        "quality": quality,
        "camera_properties": camera,
    }


def record_from_attributes(name: str, attributes: dict[str, Any]) -> MasterRecord:
    """Read back what `attributes_of` returned; StorageError where something is missing or of a wrong kind."""
    try:
        stored = from_values(_StoredAttributes, attributes)
        settings = from_values(CameraSettings, attributes)
        optics = from_values(Optics, attributes)
    except ValueError as error:
        raise StorageError(f"master {name}: its attributes are damaged: {error}; delete it or make it again") from error
    key = GroupKey(
        frame_type=stored.frame_type,
        settings=settings,
        width=stored.width,
        height=stored.height,
        exposure_time_s=stored.exposure_time_s,
        states_binning=stored.states_binning,
        filter_name=stored.filter,
        optics=optics,
        temperature_c=stored.temperature_c,
        bayer_pattern=stored.bayer_pattern,
        bias_subtracted=stored.bias_subtracted,
        night=stored.night,
        session_start=stored.session_start,
        noon_utc_s=stored.noon_utc_s,
    )
    return MasterRecord(
        name=name,
        key=key,
        made_at=stored.made_at,
        calibration_id=stored.calibration_id,
        verdict=known_verdict(attributes.get("verdict")),
        n_frames=len(stored.inputs) if stored.inputs is not None else None,
        recipe=stored.recipe,
        files=stored.files,
        observed=stored.observed or _observed_of_older(attributes.get("cards")),
        measured_c=_measured_c(attributes.get("cards")),
        noise=_noise_of(attributes, len(stored.inputs or ())),
        has_two_levels=_has_two_levels(attributes.get("quality")),
        is_only_changed=_is_only_changed(attributes.get("quality")),
    )


def _measured_c(cards: object) -> float | None:
    """Return the median temperature of the frames of a master, from the cards of its header, beside a set point."""
    known = {
        card[0]: float(card[1])
        for card in (cards if isinstance(cards, list) else [])
        if isinstance(card, list) and len(card) > 1 and isinstance(card[0], str) and isinstance(card[1], int | float)
    }
    if "SET-TEMP" not in known or "CCD-TEMP" not in known:
        return None
    return sensor_temperature_c(known["SET-TEMP"], known["CCD-TEMP"])


def _observed_of_older(cards: object) -> Observed | None:
    """Return when the frames of a master of an older version were taken, from the cards of its header."""
    texts = {
        card[0]: card[1]
        for card in (cards if isinstance(cards, list) else [])
        if isinstance(card, list) and len(card) > 1 and isinstance(card[0], str) and isinstance(card[1], str)
    }
    return observed_in(lambda keyword: texts.get(keyword))


def _noise_of(attributes: Mapping[str, Any], n_frames: int) -> float | None:
    """Return the noise of a pixel: that of a sample over the square root of their number, of flats by their level."""
    noise, levels = attributes.get("noise_adu"), attributes.get("normalization_levels_adu")
    if not isinstance(noise, int | float) or not n_frames or not noise > 0:
        return None
    values = [v for v in (levels.values() if isinstance(levels, Mapping) else ()) if isinstance(v, int | float)]
    level = math.fsum(values) / len(values) if values else 1.0
    return noise / math.sqrt(n_frames) / level if level > 0 else None


def _has_two_levels(quality: object) -> bool:
    """Return whether the check of two levels failed."""
    return any(one.get("check") == "mixture" and one.get("outcome") == "fail" for one in _findings(quality))


def _is_only_changed(quality: object) -> bool:
    """Return whether there are warnings, and all are of comparisons with the previous master."""
    wrong = [one for one in _findings(quality) if one.get("outcome") in ("warn", "fail")]
    return bool(wrong) and all(one.get("outcome") == "warn" and one.get("check") in AGAINST_PREVIOUS for one in wrong)


def _findings(quality: object) -> list[Mapping[str, Any]]:
    findings = quality.get("findings") if isinstance(quality, Mapping) else None
    return [one for one in (findings if isinstance(findings, list) else []) if isinstance(one, Mapping)]


@dataclass(frozen=True, kw_only=True)
class _StoredAttributes:
    """Attributes that every master has, and those of later versions, which may be absent."""

    frame_type: FrameType
    width: Side
    height: Side
    exposure_time_s: float
    filter: str | None
    temperature_c: float | None
    bayer_pattern: str | None
    bias_subtracted: bool
    night: date | None
    made_at: datetime
    calibration_id: str
    inputs: tuple[str, ...] | None = None
    recipe: str = ""
    session_start: datetime | None = None
    noon_utc_s: Annotated[float, between(0, DAY_S)] | None = None
    """Local noon, seconds after 0:00 UTC."""
    files: tuple[Annotated[str, matching(r"(?!\.{1,2}\Z)[^/\\\0]+", "a name of a file")], ...] = ()
    """None of them leads out of the directory of the masters."""
    observed: Observed | None = None
    states_binning: bool = True


def known_verdict(value: object) -> str | None:
    """Return a verdict in lower case; ``None`` where it is none of the three."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return word if word in ("pass", "warn", "fail") else None


def key_from_metadata(metadata: FrameMetadata) -> GroupKey | None:
    """Return the key of a FITS master from its header, or nothing where it is not a bias, dark or flat."""
    if metadata.frame_type in (None, FrameType.LIGHT):
        return None
    temperature_c = metadata.set_temperature_c
    return GroupKey(
        frame_type=metadata.frame_type or FrameType.LIGHT,
        settings=metadata.settings,
        width=metadata.width,
        height=metadata.height,
        exposure_time_s=metadata.exposure_time_s or 0.0,
        states_binning=metadata.states_binning,
        filter_name=metadata.filter_name if metadata.frame_type is FrameType.FLAT else None,
        optics=metadata.optics if metadata.frame_type is FrameType.FLAT else Optics(),
        temperature_c=temperature_c if temperature_c is not None else metadata.ccd_temperature_c,
        bayer_pattern=metadata.bayer_pattern,
        bias_subtracted=metadata.bias_subtracted and metadata.frame_type is not FrameType.FLAT,
    )
