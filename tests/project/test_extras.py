"""Without the extras: what FITS files and series need, and the line that names the extra of all else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ostcal.cli import COMMANDS
from support import night as n
from support.absent_packages import ALL_EXTRAS, BROUGHT_ALONG, EXTRAS, environment_without, run_without
from support.night import Outcome

NO_ALPYCA = "error: capture over Alpaca needs alpyca: pip install 'ostcal[capture]'"
NO_SEARCH = "error: the search for Alpaca servers needs ifaddr: pip install 'ostcal[capture]'"
NO_SIMULATOR = "error: the simulated observatory needs starlette: pip install 'ostcal[capture]'"
NO_CLUSTER = "error: compute.scheduler distributed needs distributed: pip install 'ostcal[cluster]'"
PLAN = "series:\n- {kind: dark, exposure: 1, count: 2}\n"


def configuration(folder: Path, camera_type: str, **sections: object) -> Path:
    values = {
        "video": {"camera_type": camera_type, "alpaca": {"host": "127.0.0.1", "port": 1}},
        "dark_capture": {"output_dir": str(folder / "darks")},
        "flat_capture": {"output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters")},
        **sections,
    }
    path = folder / "night.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def assert_ended_with(outcome: Outcome, line: str, exit_code: int = 2) -> None:
    assert outcome.exit_code == exit_code, outcome.text
    assert [one for one in outcome.stderr.splitlines() if one.startswith(("error", "Traceback"))] == [line]


@pytest.mark.parametrize(
    ("command", "camera_type", "line"),
    [
        ("darks", "alpaca", NO_ALPYCA),
        ("flats", "alpaca", NO_ALPYCA),
        ("workflow", "simulator", NO_SIMULATOR),
        ("schedule", "alpaca", NO_ALPYCA),
        ("schedule --once", "simulator", NO_SIMULATOR),
    ],
)
def test_commands_that_use_a_camera_name_the_extra_before_any_work(
    tmp_path: Path, command: str, camera_type: str, line: str
) -> None:
    config = configuration(tmp_path, camera_type)
    words = [*command.split(), "--config", config, *(["--no-confirm"] if "schedule" not in command else [])]
    assert_ended_with(run_without(tmp_path, EXTRAS["capture"], *words), line)
    assert not (tmp_path / "darks").exists()


def test_a_capture_plan_names_the_extra(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN, encoding="utf-8")
    words = ["capture", "--plan", plan, "--config", configuration(tmp_path, "alpaca"), "--no-confirm"]
    assert_ended_with(run_without(tmp_path, EXTRAS["capture"], *words), NO_ALPYCA)


@pytest.mark.parametrize(("command", "line"), [("cameras", NO_SEARCH), ("simulate", NO_SIMULATOR)])
def test_commands_without_a_configuration_name_the_extra(tmp_path: Path, command: str, line: str) -> None:
    assert_ended_with(run_without(tmp_path, EXTRAS["capture"], command), line)


def test_a_package_that_cannot_be_imported_is_named_with_the_reason(tmp_path: Path) -> None:
    environment = environment_without(tmp_path / "absent", ())
    (tmp_path / "absent" / "ifaddr.py").write_text("raise ImportError('a library is missing')\n", encoding="utf-8")
    done = subprocess.run(
        n.command_line("cameras"), capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 2
    reason = "ifaddr, which cannot be imported (a library is missing): pip install 'ostcal[capture]'"
    assert done.stderr.splitlines() == [f"error: the search for Alpaca servers needs {reason}"]


def test_a_cluster_names_the_extra(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    words = ["masters", "--config", n.write_config(night, compute={"scheduler": "distributed"}), "--no-confirm"]
    assert_ended_with(run_without(tmp_path, EXTRAS["cluster"], *words), NO_CLUSTER, exit_code=1)


def test_frames_are_combined_judged_and_applied_without_any_extra(tmp_path: Path) -> None:
    absent = (*ALL_EXTRAS, *BROUGHT_ALONG)
    night = n.whole_night(tmp_path)
    n.write_frames(tmp_path / "lights", n.dark_frames(5.0, 2, seed=9), "Light Frame", 5.0)
    config = n.write_config(night)

    def succeeds(*words: str | Path) -> Outcome:
        outcome = run_without(tmp_path, absent, *words)
        assert outcome.exit_code in (0, 3), f"{words}: {outcome.text}"  # 3: a master of so few pixels may fail a check
        return outcome

    succeeds("masters", "--config", config, "--no-confirm")
    assert len(list(night.masters.glob("master_*.fits"))) == 5
    succeeds("calibrate", tmp_path / "lights", "--config", config, "--output-dir", tmp_path / "calibrated")
    assert len(list((tmp_path / "calibrated").glob("*.fits"))) == 2
    succeeds("coverage", tmp_path / "lights", "--config", config)
    succeeds("library", "--config", config)
    succeeds("report", "--config", config)
    succeeds("verify", night.masters)
    succeeds("prune", "--config", config, "--keep", "3")
    succeeds("import", night.darks, "--config", config)
    (series,) = night.darks.glob("exp_5*.zarr")
    succeeds("export", series, "--to", tmp_path / "exported")
    succeeds("exclude", series, "--frame", "1", "--why", "a door")
    succeeds("workflow", "--step", "masters", "--config", config, "--no-confirm")


def test_processes_need_no_extra(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    words = ["masters", "--config", n.write_config(night, compute={"scheduler": "processes"}), "--no-confirm"]
    outcome = run_without(tmp_path, (*ALL_EXTRAS, *BROUGHT_ALONG), *words)
    assert outcome.exit_code in (0, 3), outcome.text
    assert len(list(night.masters.glob("master_*.fits"))) == 5


def python_without(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = environment_without(folder / "absent", (*ALL_EXTRAS, *BROUGHT_ALONG))
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        check=False,
    )


def test_the_help_of_every_command_needs_no_extra(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom ostcal.cli import main\n"
        "for name in sys.argv[1:]:\n"
        "    done = CliRunner().invoke(main, [name, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage' in done.output, (name, done.output, done.exception)\n"
    )
    done = python_without(tmp_path, program, *COMMANDS)
    assert done.returncode == 0, done.stderr


def test_all_public_names_can_be_imported_and_a_camera_names_the_extra(tmp_path: Path) -> None:
    program = (
        "import ostcal\n"
        "for name in ostcal.__all__:\n    getattr(ostcal, name)\n"
        "try:\n    ostcal.open_camera({'video': {'camera_type': 'alpaca'}})\n"
        "except ostcal.OstcalError as error:\n    print(type(error).__name__, error)\n"
    )
    done = python_without(tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"MissingPackageError {NO_ALPYCA.removeprefix('error: ')}\n"


def test_the_array_function_needs_no_extra(tmp_path: Path) -> None:
    program = (
        "import numpy as np, ostcal, dask.array as da\n"
        "stack = [np.full((4, 5), level, np.uint16) for level in (1, 2, 3)]\n"
        "print(float(ostcal.combine(stack, method='median').mean()))\n"
        "print(float(ostcal.combine([da.from_array(frame) for frame in stack], method='median').compute().mean()))\n"
    )
    done = python_without(tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2.0", "2.0"]
