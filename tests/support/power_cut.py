"""A small disk whose power can be cut: a file system on a loop device, shut down without writing anything back.

``FS_IOC_SHUTDOWN`` is what the developers of ext4 and xfs test recovery with: from that moment nothing reaches the
disk, and mounting it again replays the journal. Needs Linux, root and loop devices.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHUTDOWN = 0x8004587D
"""``_IOR('X', 125, __u32)``; the same for all file systems."""
_LOG_FLUSHED, _NOTHING_FLUSHED = 1, 2
_MEGABYTES = {"ext4": 256, "xfs": 300}
"""Sparse; mkfs.xfs makes none that is smaller."""
_OPTIONS = {"ext4": ("-q", "-F"), "xfs": ("-q", "-f")}
FILE_SYSTEMS = tuple(_MEGABYTES)


class CutDisk:
    """A mounted disk."""

    def __init__(self, folder: Path, image: Path, file_system: str) -> None:
        self.root = folder / "disk"
        self._image = image
        self._file_system = file_system
        self.root.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(_MEGABYTES[file_system] << 20)
        _run(f"mkfs.{file_system}", *_OPTIONS[file_system], str(self._image))

    def mount(self) -> None:
        """Mount it; the journal is replayed."""
        _run("mount", "-t", self._file_system, "-o", "loop", str(self._image), str(self.root))

    def unmount(self) -> None:
        """Unmount it."""
        _run("umount", str(self.root))

    def sync(self) -> None:
        """Write all of it back, and of no other disk."""
        _run("sync", "-f", str(self.root))

    def cut(self, *, journal_is_written: bool) -> None:
        """Cut the power and start again.

        With `journal_is_written` names that were given a moment ago are on the disk and contents are not, as when the
        system writes its journal just before; else neither.
        """
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            flag = _LOG_FLUSHED if journal_is_written else _NOTHING_FLUSHED
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(descriptor)
        self.unmount()
        self.mount()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def why_no_cuts(file_system: str) -> str:
    """Return why no power can be cut here; empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounting needs Linux and root"
    if shutil.which(f"mkfs.{file_system}") is None:
        return f"there is no mkfs.{file_system}"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    return ""


@contextmanager
def cut_disk(folder: Path, file_system: str) -> Iterator[CutDisk]:
    """Mount a new disk below a folder while the context lasts; OSError or CalledProcessError where that fails.

    Its bytes are in memory where that is possible: what is synced there is as good as on a disk here.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else folder) as place:
        disk = CutDisk(folder, Path(place, "disk.img"), file_system)
        disk.mount()
        try:
            yield disk
        finally:
            disk.unmount()
