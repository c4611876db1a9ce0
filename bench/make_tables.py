"""Write the tables of the stored benchmark results into README.md and docs/performance.md.

A table replaces what stands between ``<!-- bench:NAME -->`` and ``<!-- /bench -->``; NAME is one of `TABLES`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/performance.md")


def masters_table(result: dict[str, Any]) -> str:
    """Render the comparison of programs, ratios to ostcal's warm run."""
    own = next((program["wall_s"] for program in result["programs"] if program["name"] == "ostcal"), None)
    rows = []
    for program in result["programs"]:
        ratio = f"{program['wall_s'] / own:.1f} x" if own else "-"
        rows.append(_masters_row(program, program["method"], program, ratio))
        if program["cold"]:
            ratio = f"{program['cold']['wall_s'] / own:.1f} x" if own else "-"
            rows.append(
                _masters_row(program, "the same, very first run (compiles its kernels)", program["cold"], ratio)
            )
    head = ("program", "rejection", "time", "time / ostcal", "CPU time", "peak memory", "master agrees")
    frames = result["frames"]
    megapixels = frames["width"] * frames["height"] / 1e6
    caption = (
        f"{frames['frames']} dark frames of {frames['width']} x {frames['height']} ({megapixels:.1f} MP, uint16 FITS,"
        f" in the page cache) to one master dark in FITS, whole command. {_machine(result)}"
    )
    return f"{_markdown(head, rows)}\n\n{caption}"


def engine_table(result: dict[str, Any]) -> str:
    """Render the engine alone beside its parts, each alone."""
    rows = []
    for name, times in result["sources"].items():
        parts = times["read"] + times["decompress"] + times["sort"]
        siril = f"{result['siril_s'] / times['engine']:.1f} x" if result["siril_s"] else "-"
        rows.append(
            (
                name,
                f"{times['engine']:.2f} s",
                f"{times['read']:.2f} s",
                f"{times['decompress']:.2f} s" if times["decompress"] else "-",
                f"{times['sort']:.2f} s",
                f"{times['engine'] / parts:.2f} x",
                siril,
                f"{times['one_thread'] / times['engine'] / result['threads']:.2f}",
            )
        )
    head = (
        "frames",
        "engine",
        "read alone",
        "decompress alone",
        "sort alone",
        "engine / sum",
        "Siril / engine",
        "efficiency",
    )
    frames = result["frames"]
    caption = (
        f"{frames['frames']} dark frames of {frames['width']} x {frames['height']} in the page cache, sigma clip to"
        f" convergence, from opening the frames to the master in memory, {result['threads']} threads, fastest of"
        f" {result['runs']}; at most {result['limit']:g} x the sum, at least {result['siril_ratio']:g} x faster than"
        f" Siril, and an efficiency (against one thread) of {result['efficiency']:g} are asked for. {_machine(result)}"
    )
    return f"{_markdown(head, rows)}\n\n{caption}"


def cold_cache_table(result: dict[str, Any]) -> str:
    """Render combining from a cold page cache beside reading the raw files into nothing."""
    if "not_measured" in result:
        return f"Not measured: {result['not_measured']} {_machine(result)}"
    rows = [
        (
            name,
            f"{times['wall_s']:.1f} s",
            f"{times['bytes'] / 1e9:.2f} GB",
            f"{times['bytes'] / times['wall_s'] / 1e6:.0f} MB/s",
        )
        for name, times in result["runs"].items()
    ]
    frames = result["frames"]
    caption = (
        f"{frames['frames']} dark frames of {frames['width']} x {frames['height']}, none of their bytes in the page"
        f" cache before each run, medians of {result['rounds']}. The disk read {result['disk_bytes_per_s'] / 1e9:.1f}"
        f" GB/s; below {result['fast_disk_bytes_per_s'] / 1e9:.0f} GB/s combining has to be the quicker one."
        f" {_machine(result)}"
    )
    return f"{_markdown(('from a cold page cache', 'time', 'bytes on the disk', 'rate'), rows)}\n\n{caption}"


def start_up_table(result: dict[str, Any]) -> str:
    """Render the processor time of short commands above that of an empty Python program."""
    rows = [
        (name, f"{each['cpu_s']:.2f} s", f"{each['wall_s']:.2f} s", f"{each['limit_s']:.2f} s")
        for name, each in result["commands"].items()
    ]
    frames = result["frames"]
    caption = (
        f"Medians of {result['runs']} runs above `python -c pass`; the small run makes one master dark of"
        f" {frames['frames']} frames of {frames['width']} x {frames['height']}, kernels compiled before."
        f" {_machine(result)}"
    )
    return f"{_markdown(('command', 'CPU time', 'time', 'CPU time allowed'), rows)}\n\n{caption}"


def memory_table(result: dict[str, Any]) -> str:
    """Render the memory of the process tree against the limit that was set."""
    rows = [
        (
            str(case["frames"]),
            f"{case['width']} x {case['height']}, {case.get('stored', 'FITS')}",
            case["scheduler"],
            f"{case['wall_s']:.1f} s",
            str(case["processes"]),
            f"{case['sum_of_peaks_bytes'] / 2**20:.0f} MiB",
            f"{case['memory_limit_bytes'] / 2**20:.0f} MiB",
        )
        for case in result["cases"]
    ]
    head = ("frames", "size", "scheduler", "time", "processes", "sum of peak memory", "memory_limit")
    return f"{_markdown(head, rows)}\n\n{_machine(result)}"


def stages_table(result: dict[str, Any]) -> str:
    """Render the time per stage of one run."""
    rows = [
        (name, f"{seconds:.3f} s", f"{100 * seconds / result['wall_s']:.0f} %")
        for name, seconds in result["stages"].items()
    ]
    words = {"combine": "combine (sort, clip, sums)", "read": "read (and decompress)"}
    rows += [
        (f"in combining: {words.get(name, name)}", f"{seconds:.3f} s", "")
        for name, seconds in result.get("of_combining", {}).items()
    ]
    rows.append(("whole command", f"{result['wall_s']:.3f} s", "100 %"))
    frames = result["frames"]
    caption = (
        f"{frames['frames']} dark frames of {frames['width']} x {frames['height']}, kernels compiled before; what"
        " combining consists of is summed over the threads, except for what follows the last strip."
    )
    return f"{_markdown(('stage', 'time', 'share'), rows)}\n\n{caption} {_machine(result)}"


def capture_table(result: dict[str, Any]) -> str:
    """Render what a frame costs on its way from the camera to the disk, beside what it may cost."""
    series = result["series"]
    rows = [
        *(
            (
                f"download as {name}, request to row-major array",
                f"{each['row_major']['median_s']:.3f} s, {each['ratio_of_medians']:.2f} x the plain socket",
                f"{each['plain_socket']['median_s']:.3f} s from a plain socket; 1.7 x",
            )
            for name, each in result["download"].items()
        ),
        *(
            (
                f"processor time to store a {kind}",
                f"{store['cpu_s']:.2f} s",
                "0.40 s",
            )
            for kind, store in result["store"].items()
        ),
        *(
            (
                f"from one {kind} of {series['exposure_s'][kind]:g} s to the next",
                f"{series['cadence_s'][kind]:.2f} s",
                f"{series['bare_cadence_s'][kind]:.2f} s without storing",
            )
            for kind in series["cadence_s"]
        ),
        ("memory beyond that of 1 MP frames", f"{series['frames_in_memory']:.1f} frames", "3 frames"),
        (
            "control call while another camera downloads",
            f"{result['control_call']['beside_a_download_median_ms']:.1f} ms",
            f"{result['control_call']['alone_median_ms']:.1f} ms alone",
        ),
    ]
    megapixels = result["width"] * result["height"] / 1e6
    caption = f"Frames of {result['width']} x {result['height']} ({megapixels:.1f} MP, 16 bits). {_machine(result)}"
    return f"{_markdown(('what', 'measured', 'limit or rival'), rows)}\n\n{caption}"


def quality_table(result: dict[str, Any]) -> str:
    """Render what quality control adds to the time of one master."""
    without = result["median_s"]["without"]
    words = {
        "without": "without quality control",
        "with": "with it",
        "with report": "with it and the report",
    }
    rows = [
        (
            words[name],
            f"{seconds:.2f} s",
            f"{result['median_cpu_s'][name]:.2f} s",
            f"{result['peak_bytes'][name] / 2**20:.0f} MiB",
            f"{100 * (seconds / without - 1):+.0f} %",
        )
        for name, seconds in result["median_s"].items()
    ]
    frames = result["frames"]
    caption = (
        f"One master dark of {frames['frames']} frames of {frames['width']} x {frames['height']}, whole command,"
        f" medians of {result['runs']} runs in turn; at most {100 * result['limit']:.0f} % is allowed, report excluded."
        f" {_machine(result)}"
    )
    return f"{_markdown(('one master dark', 'time', 'CPU time', 'peak memory', 'time added'), rows)}\n\n{caption}"


def night_table(result: dict[str, Any]) -> str:
    """Render the time of all masters of a night, beside that of one."""
    frames, night = result["frames"], result["night"]
    one_cpu_s = sum(one["cpu_s"] for one in result["one"]) / len(result["one"])
    one_peak = max(one["sum_of_peaks_bytes"] for one in result["one"])
    rows = [
        ("one master dark", f"{result['one_s']:.1f} s", "1.0 x", f"{one_cpu_s:.1f} s", f"{one_peak / 2**20:.0f} MiB"),
        (
            f"all masters: bias, {len(frames['exposures_s']) - 1} darks, flat",
            f"{night['wall_s']:.1f} s",
            f"{result['ratio']:.1f} x",
            f"{night['cpu_s']:.1f} s",
            f"{night['sum_of_peaks_bytes'] / 2**20:.0f} MiB",
        ),
        (
            "allowed", f"{result['limit'] * result['one_s']:.1f} s", f"{result['limit']:.1f} x", "",
            f"{result['memory_limit_bytes'] / 2**20:.0f} MiB",
        ),
    ]  # fmt: skip
    head = ("what", "time", "time / one master", "CPU time", "sum of peak memory")
    size = f"{frames['width']} x {frames['height']}"
    cache = "from a cold page cache" if result["from_cold_cache"] else "frames in the page cache"
    caption = (
        f"{len(frames['exposures_s']) + 1} series of {frames['frames']} frames of {size}"
        f" ({result['raw_bytes'] / 1e9:.1f} GB raw, {result['stored_bytes'] / 1e9:.1f} GB stored), whole command with"
        f" quality control and report, {cache}. {_machine(result)}"
    )
    return f"{_markdown(head, rows)}\n\n{caption}"


def while_exposing_table(result: dict[str, Any]) -> str:
    """Render what combining meanwhile costs the capture, and how soon the masters are there."""
    rows = [
        (
            f"from one {'bias' if float(exposure) < 0.01 else 'dark'} of {exposure} s to the next",
            f"{both:.3f} s",
            f"{alone:.3f} s",
            f"{result['cadence_ratio'][exposure]:.3f} x",
            "1.02 x",
        )
        for exposure, (alone, both) in result["cadence_s"].items()
    ]
    rows += [
        (
            f"last of {result['masters']} masters after the last frame",
            f"{result['last_master_s']:.1f} s",
            f"{result['one_master_s']:.1f} s for one master",
            f"{result['last_master_ratio']:.2f} x",
            "2.50 x",
        ),
        ("the same where nothing was combined before", "", f"{result['last_master_without_s']:.1f} s", "", ""),
        (
            "sum of peak memory of capture and combining",
            f"{result['sum_of_peaks_bytes'] / 2**20:.0f} MiB",
            "",
            "",
            f"{result['memory_limit_bytes'] / 2**20:.0f} MiB",
        ),
    ]
    evening = result["evening"]
    apart = max(
        max(means) / min(means) - 1
        for exposure in result["cadence_s"]
        for kind in ("steps_alone_s", "steps_while_combining_s")
        for means in [[statistics.mean(capture[exposure]) for capture in result[kind]]]
    )
    spread = f"; evenings of one kind are up to {apart:.1%} apart" if evening["rounds"] > 1 else ""
    caption = (
        f"Evenings with `workflow.masters_while_exposing` and without, in turn, {evening['rounds']} of each, of"
        f" {evening['frames']} frames of each series; simulated sensor {evening['sensor']} in a process of its own on"
        f" the same machine. Means over all frames{spread}. {_machine(result)}"
    )
    head = ("what", "while combining", "alone", "ratio", "limit")
    return f"{_markdown(head, rows)}\n\n{caption}"


def growth_table(result: dict[str, Any]) -> str:
    """Render time and memory over frames and pixels, and whether they grow as they should."""
    rows = [
        (
            str(case["frames"]),
            f"{case['width']} x {case['height']} ({case['width'] * case['height'] / 1e6:.0f} MP)",
            f"{case['wall_s']:.2f} s",
            f"{case['cpu_s']:.2f} s",
            f"{case['peak_rss_bytes'] / 2**20:.0f} MiB",
        )
        for case in (*result["frames"], *result["pixels"])
    ]
    verdicts = [
        f"* {verdict['what']}: {verdict['factor']:.2f}, at most {verdict['limit']:g} allowed"
        for verdict in result["verdicts"]
    ]
    caption = f"Whole command, memory_limit {result['memory_limit_bytes'] / 2**20:.0f} MiB. {_machine(result)}"
    table = _markdown(("frames", "size", "time", "CPU time", "peak memory"), rows)
    return f"{table}\n\n{caption}\n\n" + "\n".join(verdicts)


def python_table(result: dict[str, Any]) -> str:
    """Render calls from Python beside those of ccdproc."""
    rows = []
    theirs = {(c["source"], c["dtype"]): c for c in result["calls"] if c["family"] == "ccdproc.combine"}
    frames, arrays = result["frames"], result["arrays"]
    sources = {
        "files": f"{frames['frames']} FITS files of {frames['width']} x {frames['height']}, uint16",
        "arrays": f"{arrays['count']} `CCDData` of {arrays['side']} x {arrays['side']}, float32",
    }
    for call in result["calls"]:
        other = theirs.get((call["source"], call["dtype"]))
        ratio = f"{other['seconds'] / call['seconds']:.1f} x" if other is not None else "-"
        of_cpu = f"{other['cpu_s'] / call['cpu_s']:.1f} x" if other is not None else "-"
        bits = "-"
        if other is not None and call["family"].startswith("ostcal.compat"):
            bits = "yes" if call["marks"] == other["marks"] else "NO"
        rows.append(
            (
                sources[call["source"]],
                f"`{call['family']}`",
                call["dtype"],
                f"{call['seconds']:.1f} s",
                f"{call['cpu_s']:.1f} s",
                ratio,
                of_cpu,
                f"{call['peak_rss_bytes'] / 1e9:.1f} GB",
                bits,
            )
        )
    head = (
        "images",
        "call",
        "result",
        "time",
        "CPU time",
        "ccdproc / it",
        "by CPU time",
        "peak memory",
        "bits of ccdproc",
    )
    caption = (
        f"Clipped about the mean by the standard deviation at 3 sigma, one pass, from images to the result in memory,"
        f" `mem_limit` 4e9, ccdproc {result['ccdproc']}. {_machine(result)}"
    )
    return f"{_markdown(head, rows)}\n\n{caption}"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "masters": masters_table,
    "engine": engine_table,
    "cold_cache": cold_cache_table,
    "start_up": start_up_table,
    "memory": memory_table,
    "stages": stages_table,
    "capture": capture_table,
    "quality": quality_table,
    "growth": growth_table,
    "night": night_table,
    "while_exposing": while_exposing_table,
    "python": python_table,
}


def _masters_row(program: dict[str, Any], method: str, usage: dict[str, Any], ratio: str) -> tuple[str, ...]:
    return (
        f"{program['title']} {program['version']}",
        method,
        f"{usage['wall_s']:.1f} s",
        ratio,
        f"{usage['cpu_s']:.1f} s",
        f"{usage['peak_rss_bytes'] / 1e9:.2f} GB",
        "yes" if program["agrees"] else "NO",
    )


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    memory_gib = machine["memory_bytes"] / 2**30
    return f"{machine['processor']}, {machine['cores']} cores, {memory_gib:.0f} GiB, {machine['date'][:10]}."


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def insert_table(text: str, name: str, table: str) -> str:
    """Replace what stands between the markers of a table; text without them is returned as it is."""
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def main() -> None:
    """Update the documents from the results that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--root", type=Path, default=ROOT, help="directory of README.md and docs/")
    arguments = parser.parse_args()
    for name, render in TABLES.items():
        path = arguments.results / f"{name}.json"
        if not path.is_file():
            print(f"{path} is missing: its table stays as it is", file=sys.stderr)
            continue
        table = render(json.loads(path.read_text()))
        for document in (arguments.root / relative for relative in DOCUMENTS):
            if not document.is_file():
                continue
            before = document.read_text(encoding="utf-8")
            after = insert_table(before, name, table)
            if after != before:
                document.write_text(after, encoding="utf-8")
                print(f"{document}: table {name} updated")


if __name__ == "__main__":
    main()
