"""What is stored with a master in the zarr master store: enough to find it, match it and say what made it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ostcal.codec import from_values, to_values
from ostcal.engine.tasks import JobResult
from ostcal.errors import StorageError
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import Group, GroupKey
from ostcal.library.master_header import Card, Provenance
from ostcal.naming import DAY_S


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
    return {
        "frame_type": str(provenance.frame_type),
        "width": key.width,
        "height": key.height,
        "exposure_time_s": key.exposure_time_s,
        **to_values(key.settings),
        "filter": key.filter_name,
        "temperature_c": key.temperature_c,
        "bayer_pattern": key.bayer_pattern,
        "bias_subtracted": key.bias_subtracted,
        "night": key.night.isoformat() if key.night else None,
        "noon_utc_s": key.noon_utc_s,
        "made_at": provenance.made_at.astimezone(UTC).isoformat(),
        "calibration_id": provenance.calibration_id,
        "input_digest": provenance.input_digest,
        "recipe": provenance.recipe,
        "files": list(files),
        "inputs": [frame.label for frame in group.frames],
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
    """Read back what `attributes_of` gave.

    Raises
    ------
    StorageError
        If something is missing or of a wrong kind.
    """
    try:
        key = GroupKey(
            frame_type=FrameType(attributes["frame_type"]),
            settings=from_values(CameraSettings, attributes),
            width=int(attributes["width"]),
            height=int(attributes["height"]),
            exposure_time_s=float(attributes["exposure_time_s"]),
            filter_name=attributes["filter"],
            temperature_c=attributes["temperature_c"],
            bayer_pattern=attributes["bayer_pattern"],
            bias_subtracted=bool(attributes["bias_subtracted"]),
            night=date.fromisoformat(attributes["night"]) if attributes["night"] else None,
            noon_utc_s=_noon(attributes.get("noon_utc_s")),
        )
        return MasterRecord(
            name=name,
            key=key,
            made_at=datetime.fromisoformat(attributes["made_at"]),
            calibration_id=str(attributes["calibration_id"]),
            verdict=known_verdict(attributes.get("verdict")),
            n_frames=len(attributes["inputs"]) if "inputs" in attributes else None,
            recipe=str(attributes.get("recipe", "")),
            files=tuple(_plain_name(name) for name in attributes.get("files", ())),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StorageError(
            f"master {name}: its attributes are damaged ({error!r}); delete it or make it again"
        ) from error


def _noon(value: object) -> float | None:
    """Read local noon, seconds after 0:00 UTC; masters of older versions have none."""
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= DAY_S:
        raise ValueError(f"{value!r} is no time of day in seconds")
    return float(value)


def _plain_name(name: object) -> str:
    """Refuse what leads out of the directory of the masters."""
    if not isinstance(name, str) or not name or os.path.basename(name) != name or name in (".", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    return name


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
        filter_name=metadata.filter_name if metadata.frame_type is FrameType.FLAT else None,
        temperature_c=temperature_c if temperature_c is not None else metadata.ccd_temperature_c,
        bayer_pattern=metadata.bayer_pattern,
        bias_subtracted=metadata.bias_subtracted and metadata.frame_type is not FrameType.FLAT,
    )
