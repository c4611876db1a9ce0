"""The memory that a container, or any control group of Linux, leaves to this process; more is the end of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

RESERVED_BYTES = 64 * 2**20
"""Of a container, for what no plan counts: its shell, tables of the kernel, pages that wait for the disk."""

_UNLIMITED = 1 << 60
"""Version 1 writes a number as large as can be where there is no limit."""


@dataclass(frozen=True, kw_only=True)
class MemoryCeiling:
    """The smallest limit of the control groups that a process is in."""

    limit_bytes: int
    file: str
    """That says so."""

    @property
    def usable_bytes(self) -> int:
        """What is left for a memory plan."""
        return max(0, self.limit_bytes - RESERVED_BYTES)


def memory_ceiling(proc: Path = Path("/proc/self")) -> MemoryCeiling | None:
    """Return the smallest limit on the way from the control group of this process to the root; ``None`` without one.

    Both versions are read, where they are mounted; `proc` is the process.
    """
    try:
        groups = (proc / "cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        mounts = (proc / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # another system than Linux
        return None
    found = []
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            name, group = "memory.max", _group_of(groups, "")
        elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
            name, group = "memory.limit_in_bytes", _group_of(groups, "memory")
        else:
            continue
        if group is not None:
            found += _limits(_plain(fields[4]), _plain(fields[3]), group, name)
    return min(found, key=lambda ceiling: ceiling.limit_bytes, default=None)


def within_container(memory_limit_bytes: int) -> int:
    """Return a memory limit, or what the container leaves to this process if that is less."""
    ceiling = memory_ceiling()
    return memory_limit_bytes if ceiling is None else min(memory_limit_bytes, ceiling.usable_bytes)


def _group_of(groups: list[str], controller: str) -> str | None:
    """Return the path of the group of a controller of version 1, or of version 2 with ``""``."""
    for line in groups:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            return path
    return None


def _limits(mount: str, root: str, group: str, name: str) -> list[MemoryCeiling]:
    """Read the limits of a group and of those above it, as far as they are visible below a mount point."""
    try:
        inside = PurePosixPath(group).relative_to(root)
    except ValueError:  # the group as the host calls it, of which the container sees its own part
        inside = PurePosixPath(".")
    found = []
    for part in (inside, *inside.parents):
        file = Path(mount, part, name)
        try:
            limit_bytes = int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):  # the root has none; "max" is no limit
            continue
        if 0 < limit_bytes < _UNLIMITED:
            found.append(MemoryCeiling(limit_bytes=limit_bytes, file=str(file)))
    return found


def _plain(field: str) -> str:
    """Return a path of ``mountinfo``, in which blanks are octal numbers."""
    for octal, letter in ((r"\040", " "), (r"\011", "\t"), (r"\134", "\\")):
        field = field.replace(octal, letter)
    return field
