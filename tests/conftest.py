"""Fixtures shared by all tests, and the Hypothesis profiles."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.amounts import amount
from support.folders import ROOT

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=amount(100))
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure() -> None:
    """Let what tests start be interrupted: in a shell's background Ctrl-C is ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let reports travel between processes: logs of damaged files have code points that are no characters."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real frames, which is no part of the project."""
    beside_the_checkout = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("OSTCAL_SHARED_DATA") or beside_the_checkout)
    if not folder.is_dir():
        pytest.skip(f"no real frames: {folder} is absent; set OSTCAL_SHARED_DATA to the folder that has them")
    return folder


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Return the address of an S3 server on loopback, a process of its own; credentials are in the environment."""
    pytest.importorskip("moto", reason="no S3 server: pip install 'ostcal[test]'")
    from support.object_server import s3_server

    with s3_server() as endpoint:
        yield endpoint
