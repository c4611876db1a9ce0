"""Progress of long work: a bar in a notebook, which a real kernel of Jupyter draws, and nothing in a script."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ostcal
from ostcal.progress import ProgressBar, in_notebook
from support import night as n

FRAMES = "import numpy as np, ostcal\nframes = [np.full((400, 300), level, np.uint16) for level in range(12)]\n"
COMPILED = """
from ostcal.compiled import clock
from ostcal.compiling import door
clock._ended = None  # as in a new process
def doubled(x):
    return 2 * x
assert door(doubled)(3) == 6
"""
COMPILED_IN_A_BAR = """
clock._ended = None
with p.ProgressBar("combining") as bar:
    door(doubled)(3.5)
"""


def run_in_kernel(folder: Path, *cells: str) -> list[list[dict[str, Any]]]:
    """Run cells in a kernel of Jupyter; return the outputs of each."""
    (folder / "cache").mkdir()  # where numba keeps the code of cells
    nbformat = pytest.importorskip("nbformat", reason="no notebooks: pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="no notebooks: pip install nbclient ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=n.command_environment(XDG_CACHE_HOME=str(folder / "cache")))
    return [[dict(output) for output in cell.outputs] for cell in notebook.cells]


def html_of(outputs: list[dict[str, Any]]) -> list[str]:
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def test_a_notebook_shows_bars_displays_and_that_kernels_are_compiled(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    n.write_frames(tmp_path / "lights", n.dark_frames(5.0, 2) + 500, "Light Frame", 5.0)
    config = night.config()
    cells = [
        FRAMES + "import ostcal.progress as p\nstatus = ostcal.combine(frames, 'median')",
        "p._FIRST_S = p._EVERY_S = 0.0\ncombined = ostcal.combine(frames, 'median')",
        f"creator = ostcal.MasterFrameCreator({config!r})\nstatus = creator.create_all_master_frames()",
        f"status = ostcal.CalibrationApplier({config!r}).calibrate_files(['lights'], 'out')",
        f"library = ostcal.Library({str(night.masters)!r})\nlibrary",
        "library.darks[0]",
        "status",
        COMPILED,
        COMPILED_IN_A_BAR,
    ]
    outputs = list(map(html_of, run_in_kernel(tmp_path, *cells)))
    _, combined, masters, calibrated, library, master, status, compiled, in_a_bar = outputs
    for bar, word in ((combined, "combining"), (masters, "masters"), (calibrated, "calibrating")):
        assert len(bar) == 1  # drawn over, not below each other
        assert re.search(rf"{word} <progress value=\"1\.0000\" max=\"1\"></progress> 100 % done in \d+\.\d s", bar[0])
    assert "masters (" in library[0]
    assert "data:image/png" in master[0]
    assert "2 frames calibrated" in status[0]
    assert compiled == [
        "<div>ostcal: compiling the kernels, once for each type of samples: 10 to 40 s on an idle computer</div>"
    ]
    assert len(in_a_bar) == 1


def test_a_script_is_silent_unless_it_asks(tmp_path: Path) -> None:
    program = f"{FRAMES}import sys\nostcal.combine(frames, progress=eval(sys.argv[1]))\n"

    def said(progress: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, progress], env=n.command_environment(), capture_output=True, text=True,
            check=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.stdout == ""
        return done.stderr

    assert said("None") == ""
    assert said("False") == ""


def test_a_bar_on_request_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_notebook()
    with ProgressBar("combining", show=True) as bar:
        bar.start(4)
        bar.advance(2)
        bar.say("compiling the kernels")
        bar.advance(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "combining: 50 %, compiling the kernels"
    assert re.fullmatch(r"combining: 100 %, done in \d+\.\d s", lines[-1])
    with contextlib.suppress(KeyboardInterrupt), ProgressBar("combining", show=True) as bar:
        bar.say("")
        raise KeyboardInterrupt
    assert "stopped after" in capsys.readouterr().err
    with ProgressBar("combining") as bar:
        bar.start(1)
        bar.advance(1)
        bar.say("nobody looks")
    assert capsys.readouterr().err == ""


def test_work_that_is_done_at_once_has_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    frames = [np.full((20, 30), level, np.uint16) for level in range(5)]
    ostcal.combine(frames, "median")  # compiled or loaded
    capsys.readouterr()
    np.testing.assert_array_equal(ostcal.combine(frames, "median", progress=True), np.full((20, 30), 2.0))
    assert capsys.readouterr().err == ""


def test_compiling_is_said_to_somebody_who_waits_at_a_prompt() -> None:
    lines = "from ostcal.compiling import door\nimport ostcal.progress\ndef f(x): return x + 1\n\ndoor(f)(1)\n"
    said = [
        subprocess.run(
            [sys.executable, *options], input=lines, env=n.command_environment(), capture_output=True, text=True,
            check=True,
        )
        for options in (["-i", "-q"], ["-"])
    ]  # fmt: skip
    at_prompt, in_script = (done.stderr for done in said)
    assert "ostcal: compiling the kernels" in at_prompt
    assert in_script == ""
