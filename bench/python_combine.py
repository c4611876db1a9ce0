"""Compare `ostcal.combine` and `ostcal.compat.ccdproc.combine` with `ccdproc.combine`, as a notebook calls them.

Each call is timed in a process of its own, from images to the result in memory, without the imports. Frames are those
of `dark_frames.py` in FITS files, and arrays of noise. The results of ours and of ccdproc are compared bit by bit.

Usage: python_combine.py [--frames 40 --size 9576x6388 --work DIRECTORY] [--repeat 3]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dark_frames import add_frame_arguments, chosen_frame_set, default_work, prepare_frames
from machine import machine_facts, package_version
from make_tables import python_table
from process_tree import Command, run_measured

RESULTS = Path(__file__).resolve().parent / "results"
MEMORY_LIMIT_BYTES = 4e9
ARRAYS = (20, 4096)
"""How many arrays of float32 are in memory, and their side in pixels."""

FAMILIES = ("ostcal.combine", "ostcal.compat.ccdproc.combine", "ccdproc.combine")

CALL = """
import json, sys, time, zlib
import numpy as np
family, source, dtype, digest = sys.argv[1:5]
paths = sys.argv[5:]
clip = {"sigma_clip": True, "sigma_clip_func": "mean", "sigma_clip_dev_func": "std", "method": "average"}
if family == "ostcal.combine":
    import ostcal
    def call(images):
        return ostcal.combine(images, clip_center="mean", clip_spread="std", unit="adu")
else:
    if family.startswith("ostcal"):
        from ostcal.compat.ccdproc import combine
    else:
        from ccdproc import combine
    def call(images):
        return combine(images, mem_limit=MEMORY_LIMIT, dtype=dtype, **(clip | ({"unit": "adu"} if paths else {})))
images = paths
if source == "arrays":
    from astropy.nddata import CCDData
    rng = np.random.default_rng(1)
    images = [CCDData(rng.standard_normal((SIDE, SIDE), np.float32) * 5 + 1000, unit="adu") for _ in range(COUNT)]
if family.startswith("ostcal"):
    call([image if paths else image[:64] for image in images[:2]])  # compiled, or loaded
began, before = time.perf_counter(), time.process_time()
result = call(images)
seconds, cpu = time.perf_counter() - began, time.process_time() - before
planes = (result.data, result.uncertainty.array, result.mask)
marks = [zlib.crc32(np.ascontiguousarray(plane).view(np.uint8)) for plane in planes]
open(digest, "w").write(json.dumps({"seconds": seconds, "cpu_s": cpu, "marks": marks}))
"""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_frame_arguments(parser)
    parser.add_argument("--repeat", type=int, default=3, help="runs of ostcal, of which the fastest counts")
    parser.add_argument("--dtypes", default="float32,float64", help="of the samples and of the result of combine")
    parser.add_argument("--side", type=int, default=ARRAYS[1], help="of the arrays in memory")
    parser.add_argument("--out", type=Path, default=RESULTS / "python.json")
    return parser.parse_args()


def main() -> int:
    """Run the comparison; 0 when ours gave the bits of ccdproc."""
    arguments = parse_arguments()
    frame_set = chosen_frame_set(arguments)
    work = arguments.work or default_work(frame_set)
    paths = [str(path) for path in prepare_frames(work, frame_set)]
    families = [family for family in FAMILIES if family != "ccdproc.combine" or package_version("ccdproc")]
    scratch = work / "python"
    scratch.mkdir(parents=True, exist_ok=True)
    calls: list[dict[str, Any]] = []
    for source, images in (("files", paths), ("arrays", [])):
        for dtype in arguments.dtypes.split(","):
            for family in families:
                if family == "ostcal.combine" and dtype == "float64":
                    continue  # its result is float32
                n_runs = 1 if family == "ccdproc.combine" else arguments.repeat
                runs = [run(family, source, dtype, images, scratch, arguments.side) for _ in range(n_runs)]
                best = min(runs, key=lambda one: one["seconds"])
                calls.append({"family": family, "source": source, "dtype": dtype, **best})
    result = {
        "benchmark": "python",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        "arrays": {"count": ARRAYS[0], "side": arguments.side},
        "ccdproc": package_version("ccdproc"),
        "calls": calls,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(python_table(result))
    return 0 if all(same_bits(calls)) else 1


def run(family: str, source: str, dtype: str, paths: Sequence[str], scratch: Path, side: int) -> dict[str, Any]:
    """Measure one call in a process of its own."""
    digest = scratch / "digest.json"
    digest.unlink(missing_ok=True)
    code = (
        CALL.replace("SIDE", str(side))
        .replace("COUNT", str(ARRAYS[0]))
        .replace("MEMORY_LIMIT", f"{MEMORY_LIMIT_BYTES}")
    )
    argv = (sys.executable, "-c", code, family, source, dtype, str(digest), *paths)
    usage = run_measured(Command(argv=argv, directory=scratch, environment={}), timeout_s=3600.0)
    if usage.exit_code != 0:
        raise subprocess.CalledProcessError(usage.exit_code, family, (scratch / "log.txt").read_text())
    measured: dict[str, Any] = json.loads(digest.read_text())
    times = f"{measured['seconds']:.2f} s, {measured['cpu_s']:.2f} s of CPU"
    print(f"{family} {source} {dtype}: {times} (load before: {usage.load_before})", file=sys.stderr, flush=True)
    return {**measured, "peak_rss_bytes": usage.peak_rss_bytes, "load_before": usage.load_before}


def same_bits(calls: Sequence[dict[str, Any]]) -> list[bool]:
    """Return for each call of ccdproc whether ours gave the same bits."""
    of_ours = {(c["source"], c["dtype"]): c["marks"] for c in calls if c["family"].startswith("ostcal.compat")}
    return [c["marks"] == of_ours[c["source"], c["dtype"]] for c in calls if c["family"] == "ccdproc.combine"]


if __name__ == "__main__":
    sys.exit(main())
