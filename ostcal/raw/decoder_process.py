"""A program of its own that decodes raw files of cameras for `ostcal.raw.reader`, which starts it by its path.

LibRaw is C++ code for the formats of hundreds of cameras, which only their makers know: a damaged file that crashes it,
or keeps it busy, costs one frame here, not the run.

It reads one request per line (JSON: the path, and whether samples are wanted) and answers with a description (JSON) or
with pieces of samples: each its length as eight bytes and as many bytes; ``END`` instead of a length ends an answer,
``FAILED`` is followed by the reason.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import struct
import sys
import time
from typing import Any

END, FAILED = -1, -2
LENGTH = struct.Struct("<q")
PIECE_BYTES = 4 * 2**20

_MAX_EXPANSION = 400
"""Samples that one byte of a file can become: the best compression of cameras reaches 10."""
_FREE_SAMPLES = 2**20
_MEMORY_BYTES = 4 * 2**30
_CPU_S = 120.0
_TEMPERATURES = ("MakerNote CameraTemperature", "MakerNote SensorTemperature")
_CANON_SHOT, _CANON_TEMPERATURE = "Image Tag 0x0004", 12
"""Of CR3 files, whose notes are a directory of their own."""
_CANON_BOXES = (b"CMT1", b"CMT2", b"CMT3")
_BOXES_WITHIN = 2**18


def answer_requests() -> None:
    """Answer requests until the other side closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the run that reads ends itself, and this with it
    import exifread
    import rawpy

    answers = sys.stdout.buffer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _limit(_MEMORY_BYTES, _CPU_S)
            with rawpy.imread(request["path"]) as raw:
                _check_size(raw.sizes, os.path.getsize(request["path"]))
                if request["samples"]:
                    data = memoryview(raw.raw_image.astype("<u2")).cast("B")
                else:
                    data = memoryview(json.dumps(_described(raw, exifread, request["path"])).encode("ascii"))
            for start in range(0, len(data), PIECE_BYTES):
                piece = data[start : start + PIECE_BYTES]
                answers.write(LENGTH.pack(len(piece)))
                answers.write(piece)
            answers.write(LENGTH.pack(END))
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 (whatever the decoders make of damage, some of it of no public class)
            said = error.args[0] if error.args else ""
            text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error) or type(error).__name__
            failure = " ".join(text.split())[:500].encode("utf-8", "backslashreplace")
            answers.write(LENGTH.pack(FAILED) + LENGTH.pack(len(failure)) + failure)
        answers.flush()


def _check_size(sizes: Any, file_bytes: int) -> None:
    samples = sizes.raw_height * sizes.raw_width
    if not 0 < samples <= max(_FREE_SAMPLES, _MAX_EXPANSION * file_bytes):
        raise ValueError(f"{sizes.raw_width} x {sizes.raw_height} samples cannot be in a file of {file_bytes} bytes")


def _described(raw: Any, exifread: Any, path: str) -> dict[str, Any]:
    """Return what is said of a frame; what a file does not say is left out."""
    image, sizes = raw.raw_image, raw.sizes
    if image is None or image.ndim != 2:
        raise ValueError("it has no mosaic of one value in each pixel, but a picture that was processed")
    if image.dtype.name != "uint16":
        raise ValueError(f"its samples are {image.dtype.name}, not uint16")
    tags = _tags(exifread, path)
    other = raw.other
    described = {
        "height": image.shape[0],
        "width": image.shape[1],
        "visible": [sizes.top_margin, sizes.left_margin, sizes.height, sizes.width],
        "pattern": _pattern(raw, sizes),
        "exposure_s": float(f"{other.shutter_speed:.6g}"),
        "iso": float(other.iso_speed),
        "white_level": int(raw.white_level or 0),
        "camera": _camera(_text(tags, "Image Make"), _text(tags, "Image Model")),
        "date": _text(tags, "EXIF DateTimeOriginal", "Image DateTime"),
        "offset": _text(tags, "EXIF OffsetTimeOriginal"),
        "temperature": _temperature(tags),
    }
    return {key: value for key, value in described.items() if value not in ("", None)}


def _pattern(raw: Any, sizes: Any) -> str:
    """Return the colours of the first pixels of the whole sensor, row by row; "" where they are no Bayer pattern."""
    pattern = raw.raw_pattern  # of the visible pixels
    if pattern is None or pattern.shape != (2, 2):
        return ""
    top, left = sizes.top_margin, sizes.left_margin
    colours = raw.color_desc.decode("ascii", "replace")
    return "".join(colours[pattern[(y - top) % 2, (x - left) % 2]] for y in (0, 1) for x in (0, 1))


def _tags(exifread: Any, path: str) -> dict[str, Any]:
    """Return EXIF and maker notes, none where they cannot be read: LibRaw has what a frame needs at least."""
    import io

    found: dict[str, Any] = {}
    try:
        with open(path, "rb") as file:
            start = file.read(_BOXES_WITHIN)
            if start[4:8] != b"ftyp":
                file.seek(0)
                return dict(exifread.process_file(file, details=True, extract_thumbnail=False))
    except Exception:  # noqa: BLE001 (of damaged notes anything can come)
        return found
    for name in _CANON_BOXES:  # CR3: each box is a TIFF file of one directory
        at = start.find(name)
        length = int.from_bytes(start[max(0, at - 4) : at], "big") - 8
        if at > 0 and length > 0:
            try:
                found.update(exifread.process_file(io.BytesIO(start[at + 4 : at + 4 + length]), details=True))
            except Exception:  # noqa: BLE001 (as above)
                continue
    for tag in ("DateTimeOriginal", "OffsetTimeOriginal"):
        if f"Image {tag}" in found:
            found.setdefault(f"EXIF {tag}", found[f"Image {tag}"])
    return found


def _temperature(tags: dict[str, Any]) -> str:
    """Return the temperature of the camera in degrees C from its maker notes."""
    shot = getattr(tags.get(_CANON_SHOT), "values", ())
    if len(shot) > _CANON_TEMPERATURE and isinstance(shot[_CANON_TEMPERATURE], int) and shot[_CANON_TEMPERATURE] > 0:
        return str(shot[_CANON_TEMPERATURE] - 128)
    return next((_text(tags, name) for name in _TEMPERATURES if name in tags), "")


def _text(tags: dict[str, Any], *names: str) -> str:
    return next((text for name in names if (text := str(tags.get(name, "")).strip("\0 "))), "")


def _camera(make: str, model: str) -> str:
    """Return make and model, the make once."""
    first = re.split(r"\W+", make)[0]
    return model if not first or model.lower().startswith(first.lower()) else f"{first.title()} {model}".strip()


def _limit(memory_bytes: int, cpu_s: float) -> None:
    """Limit memory and CPU time from now on: more memory is an error, more time ends the process."""
    if sys.platform == "win32":
        return
    import resource

    limits = {resource.RLIMIT_CPU: math.ceil(time.process_time() + cpu_s), resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            taken_bytes = int(file.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = taken_bytes + memory_bytes
    for kind, soft in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


if __name__ == "__main__":
    answer_requests()
