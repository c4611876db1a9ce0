"""Object stores from the command line: killed copies, servers that are away, wrong places; nothing tells a secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import files_below, retried
from ostcal.series.reader import open_series
from support import night as n
from support.object_samples import fresh_bucket, write_series
from support.object_server import ACCESS_KEY, ENVIRONMENT, SECRET_KEY, FaultyProxy, credentials, free_port


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    with credentials():
        yield fresh_bucket(s3_endpoint)
    use_options(ObjectOptions())


@pytest.fixture
def series(tmp_path: Path) -> Path:
    path = tmp_path / "darks" / "exp_5.000s.zarr"
    write_series(path, 30)
    return path


def config(folder: Path, endpoint: str, masters: str = "masters", darks: str = "darks", **storage: Any) -> Path:
    path = folder / "c.yaml"
    values = {
        "dark_capture": {"output_dir": darks},
        "flat_capture": {"output_dir": darks},
        "master_frames": {"output_dir": masters},
        "storage": {"endpoint": endpoint, "retries": 2, "timeout": 2, **storage},
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def one_line(outcome: n.Outcome, exit_code: int = 1) -> str:
    """Return the only line that a command said on its way out, and see that it told no secret."""
    assert outcome.exit_code == exit_code, outcome.text
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert SECRET_KEY not in outcome.text
    assert ACCESS_KEY not in outcome.text
    assert "Traceback" not in outcome.text
    return lines[0]


def test_upload_and_download_say_what_they_did(bucket: str, s3_endpoint: str, series: Path, tmp_path: Path) -> None:
    yaml = config(tmp_path, s3_endpoint)
    up = n.ostcal("upload", "darks", f"{bucket}/darks", "--config", yaml)
    assert up.exit_code == 0, up.text
    down = n.ostcal("download", f"{bucket}/darks", "fetched", "--config", yaml)
    assert down.exit_code == 0, down.text
    assert "exp_5.000s.zarr" in up.stdout
    assert files_below("fetched/exp_5.000s.zarr") == files_below(series)
    again = n.ostcal("upload", "darks", f"{bucket}/darks", "--config", yaml)
    (row,) = re.findall(r"(\d+) +([\d.]+) +(\d+) +(\d+)$", again.stdout, flags=re.MULTILINE)
    assert (row[0], row[1], row[3]) == ("0", "0.0", "0")


def test_the_environment_alone_is_enough(
    bucket: str, s3_endpoint: str, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    assert n.ostcal("upload", series, bucket).exit_code == 0
    outcome = n.ostcal("verify", f"{bucket}/exp_5.000s.zarr")
    assert outcome.exit_code == 0, outcome.text
    assert n.ostcal("export", f"{bucket}/exp_5.000s.zarr", "--to", "fits").exit_code == 0
    assert len(list(Path("fits").iterdir())) == 30


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL (POSIX)")
def test_a_killed_upload_goes_on_where_it_was(bucket: str, s3_endpoint: str, series: Path, tmp_path: Path) -> None:
    def slowly(method: str, path: str, number: int) -> str:
        time.sleep(0.02)
        return ""

    target = f"{bucket}/exp_5.000s.zarr"
    with FaultyProxy(s3_endpoint, slowly) as proxy:
        yaml = config(tmp_path, proxy.endpoint, timeout=20)
        for n_before in (5, 15):
            command = [sys.executable, "-m", "ostcal", "upload", str(series), bucket, "--config", str(yaml)]
            process = subprocess.Popen(
                command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=n.command_environment(**ENVIRONMENT)
            )
            deadline = time.monotonic() + 60
            while len(files_below(target)) < n_before and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            there = files_below(target)
            assert n_before <= len(there) < len(files_below(series))
            assert "zarr.json" not in there  # nobody takes it for a series yet
        before = {name: ObjectPath.of(f"{target}/{name}").state().modified_s for name in there}
    time.sleep(1.1)  # the server's clock has whole seconds
    outcome = n.ostcal("upload", series, bucket, "--config", config(tmp_path, s3_endpoint, timeout=20))
    assert outcome.exit_code == 0, outcome.text
    assert files_below(target) == files_below(series)
    sent_again = [name for name in there if ObjectPath.of(f"{target}/{name}").state().modified_s != before[name]]
    assert not sent_again
    assert len(open_series(target).records) == 30


@pytest.mark.timeout(120)  # four commands
def test_a_server_that_is_away_is_said_in_one_line_and_soon(bucket: str, series: Path, tmp_path: Path) -> None:
    yaml = config(tmp_path, f"http://127.0.0.1:{free_port()}", masters=f"{bucket}/masters")
    for command in (
        ("upload", series, bucket, "--config", yaml),
        ("verify", bucket, "--config", yaml),
        ("masters", "--config", yaml, "--no-confirm"),
        ("library", "--config", yaml),
    ):
        assert "the server does not answer" in one_line(n.ostcal(*command))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals (POSIX)")
@pytest.mark.parametrize("command", ["upload", "masters"])
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_ends_within_seconds_though_the_store_hangs(
    bucket: str, s3_endpoint: str, series: Path, tmp_path: Path, command: str, number: int, exit_code: int
) -> None:
    from_here_on = 6 if command == "upload" else 60

    def hangs(method: str, path: str, request: int) -> str:
        if request >= from_here_on:
            time.sleep(40)
        return ""

    assert n.ostcal("upload", series, bucket, "--config", config(tmp_path, s3_endpoint)).exit_code == 0
    with FaultyProxy(s3_endpoint, hangs) as proxy:
        yaml = config(tmp_path, proxy.endpoint, masters=f"{bucket}/masters", darks=bucket, timeout=30, retries=5)
        words = ["upload", series, f"{bucket}/other"] if command == "upload" else ["masters", "--no-confirm"]
        process = subprocess.Popen(
            n.command_line(*words, "--config", yaml),
            env=n.command_environment(**ENVIRONMENT),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while proxy.n_requests < from_here_on:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        try:
            said = process.communicate(timeout=30)[1]  # a request hangs for longer
        finally:
            process.kill()
        assert process.returncode == exit_code, said
        assert "what is finished is kept" in said
        assert "Traceback" not in said


def test_a_server_that_only_fails_ends_a_run(bucket: str, s3_endpoint: str, series: Path, tmp_path: Path) -> None:
    with FaultyProxy(s3_endpoint, lambda method, path, number: "503") as proxy:
        line = one_line(n.ostcal("upload", series, bucket, "--config", config(tmp_path, proxy.endpoint)))
        assert "the server answered 503" in line


def test_an_outage_leaves_no_frame_out(bucket: str, s3_endpoint: str, series: Path, tmp_path: Path) -> None:
    """A frame that cannot be fetched is not a damaged one: the master is not made rather than made of fewer."""
    assert n.ostcal("upload", "darks", f"{bucket}/darks", "--config", config(tmp_path, s3_endpoint)).exit_code == 0

    def one_frame_is_away(method: str, path: str, number: int) -> str:
        return "503" if "/frames/c/7/" in path and method == "GET" else ""

    with FaultyProxy(s3_endpoint, one_frame_is_away) as proxy:
        yaml = config(tmp_path, proxy.endpoint, darks=f"{bucket}/darks")
        outcome = n.ostcal("masters", "--config", yaml, "--no-confirm", "--darks-only")
        assert outcome.exit_code == 1
        assert "the server answered 503" in outcome.stderr
        assert not list(Path("masters").glob("*.fits"))


def test_a_missing_bucket(bucket: str, s3_endpoint: str, series: Path, tmp_path: Path) -> None:
    yaml = config(tmp_path, s3_endpoint)
    assert "there is no bucket absent" in one_line(n.ostcal("upload", series, "s3://absent/x", "--config", yaml))
    assert "there is no bucket absent" in one_line(n.ostcal("verify", "s3://absent/x", "--config", yaml))


def test_other_schemes_say_what_they_miss(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert "AZURE_STORAGE_ACCOUNT_NAME" in one_line(n.ostcal("upload", series, "az://container/darks"))


def test_missing_credentials(
    bucket: str, s3_endpoint: str, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    # where a virtual machine would give them: nobody is there
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    line = one_line(n.ostcal("upload", series, bucket, "--config", config(tmp_path, s3_endpoint)))
    assert "AWS_ACCESS_KEY_ID" in line


def test_frames_are_not_captured_into_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    yaml = config(tmp_path, "http://127.0.0.1:1", darks="s3://bucket/darks")
    for command in ("darks", "workflow"):
        line = one_line(n.ostcal(command, "--config", yaml, "--no-confirm"), exit_code=2)
        assert "dark_capture.output_dir: s3://bucket/darks" in line
        assert "ostcal upload" in line


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("ftp://host/x", "ftp://...: no scheme of a location"),
        ("s3://", "names no bucket"),
        (f"s3://{ACCESS_KEY}:{SECRET_KEY}@bucket/x", "credentials do not belong into a location"),
        (f"https://{ACCESS_KEY}:{SECRET_KEY}@host/x", "https://...: no scheme of a location"),
        ("s3://bucket/../other", "leads nowhere"),
    ],
)
def test_wrong_locations(place: str, expected: str, series: Path) -> None:
    assert expected in one_line(n.ostcal("upload", series, place))
    assert expected in one_line(n.ostcal("verify", place))


def test_credentials_in_the_configuration_are_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = f"{ACCESS_KEY}:{SECRET_KEY}"
    yaml = config(tmp_path, f"http://{secret}@nas:9000", masters=f"s3://{secret}@bucket/masters")
    outcome = n.ostcal("masters", "--config", yaml, "--no-confirm", "--debug")
    assert outcome.exit_code == 2
    assert "storage.endpoint" in outcome.text
    assert "master_frames.output_dir" in outcome.text
    assert SECRET_KEY not in outcome.text


def test_both_sides_of_one_kind_are_wrong_usage(series: Path, tmp_path: Path) -> None:
    assert n.ostcal("upload", series, tmp_path / "other").exit_code == 2
    assert n.ostcal("download", "s3://a/b", "s3://a/c").exit_code == 2


def test_without_the_extra_the_command_says_how_to_install_it(series: Path, tmp_path: Path) -> None:
    """Python finds a broken package first, as where the extra is missing."""
    (tmp_path / "obstore.py").write_text("raise ImportError('not installed')\n")
    environment = n.command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    command = [sys.executable, "-m", "ostcal", "upload", str(series), "s3://bucket/x"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert ended.returncode == 1
    assert "pip install 'ostcal[s3]'" in ended.stderr
    assert "Traceback" not in ended.stderr


# ---- network file systems ----


@pytest.mark.parametrize("number", [5, 116, 110], ids=["EIO", "ESTALE", "ETIMEDOUT"])
def test_a_network_file_system_may_fail_for_a_moment(number: int) -> None:
    left = [OSError(number, "for a moment"), OSError(number, "again")]

    def read() -> str:
        if left:
            raise left.pop()
        return "rows"

    assert retried(read, (0.01, 0.01, 0.01)) == "rows"


def test_what_does_not_pass_is_not_waited_for() -> None:
    calls = []

    def read() -> None:
        calls.append(1)
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        retried(read)
    assert len(calls) == 1


def test_a_disk_that_stays_broken_is_given_up() -> None:
    calls = []

    def read() -> None:
        calls.append(1)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        retried(read, (0.01, 0.01, 0.01))
    assert len(calls) == 4
