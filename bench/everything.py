"""Run every benchmark, one after the other, and write their tables into README.md and docs/.

First it says which peers are installed and how to get those that are not; they are left out of the comparison, never
guessed. Nothing else should run on the machine: it takes about an hour and 45 GB of disk, ``--quick`` a few minutes and
no figures that mean anything (and leaves the tables alone).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from process_tree import exit_when_terminated
from programs import BENCH, PROGRAMS


@dataclass(frozen=True, kw_only=True)
class Step:
    """A benchmark and its options."""

    script: str
    options: tuple[str, ...] = ()


STEPS = (
    Step(script="compare_masters", options=("--frames", "40", "--size", "9576x6388", "--repeat", "2")),
    Step(script="engine"),
    Step(script="cold_cache"),
    Step(script="stages"),
    Step(script="start_up"),
    Step(script="quality"),
    Step(script="memory"),
    Step(script="growth"),
    Step(script="capture"),
    Step(script="while_exposing"),
    Step(script="whole_night"),
    Step(script="graph_cost"),
)


def main() -> int:
    """Run all; 0 when every benchmark ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="whether all of them run")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench")
    arguments = parser.parse_args()
    say_peers()
    wanted = arguments.only.split(",") if arguments.only else [step.script for step in STEPS]
    unknown = sorted(set(wanted) - {step.script for step in STEPS})
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(step.script for step in STEPS)}")
    failed = [step.script for step in STEPS if step.script in wanted and not run(step, arguments.quick, arguments.work)]
    if not arguments.quick:
        subprocess.run([sys.executable, str(BENCH / "make_tables.py")], check=True)
        subprocess.run([sys.executable, str(BENCH / "scaling.py"), "--write"], check=True)
    print(f"failed or short of the mark: {', '.join(failed)}" if failed else "all benchmarks ran and kept their marks")
    return 1 if failed else 0


def say_peers() -> None:
    """Name the programs that will be compared, and what would add the others."""
    for program in PROGRAMS:
        version = program.version()
        print(f"{program.title}: {version}" if version else f"{program.title}: not installed; {program.install}")


def run(step: Step, quick: bool, work: Path) -> bool:
    """Run a benchmark; its words go to the terminal."""
    options = ["--quick", "--out", str(work / "quick" / f"{step.script}.json")] if quick else list(step.options)
    print(f"== {step.script}", flush=True)
    began = time.monotonic()
    with (
        exit_when_terminated(),
        subprocess.Popen([sys.executable, str(BENCH / f"{step.script}.py"), *options]) as process,
    ):
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # it ends what it measures
            raise
    print(f"== {step.script}: {'ended well' if code == 0 else f'ended with {code}'}, {time.monotonic() - began:.0f} s")
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
