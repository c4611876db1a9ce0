"""What a program makes of a disk, call by call: which files and names a power cut could still take back.

A small library between Python and the system's C library writes every call that changes something below one folder
to a file; `replayed` goes through them with a model of a disk that keeps only what was fsync'ed. It can kill the
program at one of them too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.folders import TESTS

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int journal = -1;
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name)

static void note(const char *call, const char *path, const char *other)
{
    const char *below = getenv("DISK_BELOW"), *to = getenv("DISK_CALLS"), *last = getenv("DISK_LAST_CALL");
    static int calls = 0;
    char line[9000];
    if (!below || !to || strncmp(path, below, strlen(below))) return;
    if (last && __sync_add_and_fetch(&calls, 1) == atoi(last)) kill(getpid(), SIGKILL);
    if (journal < 0) {
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        journal = real(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    int length = snprintf(line, sizeof line, "%s\t%s\t%s\n", call, path, other);
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    real(journal, line, length);
}

static void note_at(const char *call, int directory, const char *name)
{
    char link[64], path[8192];
    if (name[0] == '/') { note(call, name, ""); return; }
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, path, 4096);
    if (length < 0) return;
    snprintf(path + length, sizeof path - length, *name ? "/%s" : "", name);
    note(call, path, "");
}

#define MODE \
    int mode = 0; va_list rest; va_start(rest, flags); if (flags & O_CREAT) mode = va_arg(rest, int); va_end(rest)
#define OPEN(name) \
    int name(const char *p, int flags, ...) { \
        MODE; REAL(name); int is_new = (flags & O_CREAT) && access(p, F_OK), f = real(p, flags, mode); \
        if (f >= 0 && is_new) note("name", p, ""); \
        if (f >= 0 && (is_new || flags & O_TRUNC)) note("write", p, ""); \
        return f; }
OPEN(open)
OPEN(open64)
int mkdir(const char *p, mode_t m) { REAL(mkdir); int r = real(p, m); if (!r) note("name", p, ""); return r; }
int rename(const char *a, const char *b) { REAL(rename); int r = real(a, b); if (!r) note("rename", a, b); return r; }
int fsync(int f) { REAL(fsync); int r = real(f); if (!r) note_at("sync", f, ""); return r; }
int fdatasync(int f) { REAL(fdatasync); int r = real(f); if (!r) note_at("sync", f, ""); return r; }
int symlink(const char *to, const char *p)
{ REAL(symlink); int r = real(to, p); if (!r) note("name", p, ""); return r; }
int unlink(const char *p) { REAL(unlink); int r = real(p); if (!r) note("remove", p, ""); return r; }
int rmdir(const char *p) { REAL(rmdir); int r = real(p); if (!r) note("remove", p, ""); return r; }
int unlinkat(int d, const char *p, int flags)
{ REAL(unlinkat); int r = real(d, p, flags); if (!r) note_at("remove", d, p); return r; }
ssize_t write(int f, const void *b, size_t n) { REAL(write); note_at("write", f, ""); return real(f, b, n); }
ssize_t writev(int f, const struct iovec *v, int n) { REAL(writev); note_at("write", f, ""); return real(f, v, n); }
ssize_t pwrite(int f, const void *b, size_t n, off_t at)
{ REAL(pwrite); note_at("write", f, ""); return real(f, b, n, at); }
ssize_t pwrite64(int f, const void *b, size_t n, off64_t at)
{ REAL(pwrite64); note_at("write", f, ""); return real(f, b, n, at); }
"""


@dataclass
class Disk:
    """What was changed and is not certain to be on the disk."""

    unsynced: set[Path] = field(default_factory=set)
    """Files whose contents may be lost."""
    unnamed: set[Path] = field(default_factory=set)
    """Files and directories whose names may be lost, or come back."""

    def apply(self, call: str, path: Path, target: Path) -> None:
        """Follow one call."""
        if call == "name":
            self.unnamed.add(path)
        elif call == "write":
            self.unsynced.add(path)
        elif call == "sync":
            self.unsynced.discard(path)
            self.unnamed -= {name for name in self.unnamed if name.parent == path}
        elif call == "remove":  # a name that was on the disk may come back
            came_with_it = {name for name in self.unnamed if name.is_relative_to(path)}
            self.unsynced.discard(path)
            self.unnamed = self.unnamed - came_with_it | ({path} - came_with_it)
        elif call == "rename":
            for kind in (self.unsynced, self.unnamed):
                moved = {name for name in kind if name.is_relative_to(path)}
                kind -= {name for name in kind if name.is_relative_to(target)} | moved
                kind |= {target / name.relative_to(path) for name in moved}
            self.unnamed.add(target)

    def at_risk(self, below: Path) -> list[str]:
        """Return what a power cut could take of a directory, and of the names of those above it, relative to it."""
        lost = {path for path in self.unsynced | self.unnamed if path.is_relative_to(below)}
        lost |= {path for path in self.unnamed if below.is_relative_to(path)}
        return sorted(os.path.relpath(path, below) for path in lost)


@dataclass(frozen=True)
class Call:
    """One call, and the disk as it was before it."""

    name: str
    path: Path
    """What was changed; of a rename the new name."""
    source: Path
    """Of a rename the old name, else the same."""
    before: Disk


def recording(below: Path, journal: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of a program whose calls below a folder are written to a file.

    It is killed at the call whose number, counted from 1 in its own process, is in DISK_LAST_CALL.
    """
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs LD_PRELOAD and a C compiler")
    shim = scratch / "disk_calls.so"
    build = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(shim), "-x", "c", "-", "-ldl"]
    if subprocess.run(build, input=SHIM.encode(), capture_output=True, check=False).returncode:
        pytest.skip("the C compiler makes no shared library here")
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "LD_PRELOAD": str(shim)}
    return environment | {"DISK_BELOW": str(below), "DISK_CALLS": str(journal)}


def replayed(program: str, below: Path) -> tuple[list[Call], Disk]:
    """Run a program in a process of its own; return its calls below a folder, and the disk at the end."""
    journal = below.parent / "disk_calls.txt"
    environment = recording(below, journal, below.parent)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(below)], env=environment, check=True)
    disk, calls = Disk(), []
    for name, path, target in _lines(journal):
        calls.append(Call(name, Path(target or path), Path(path), Disk(set(disk.unsynced), set(disk.unnamed))))
        disk.apply(name, Path(path), Path(target))
    return calls, disk


def _lines(journal: Path) -> Iterator[tuple[str, str, str]]:
    for line in journal.read_text().splitlines():
        name, path, target = line.split("\t")
        yield name, path, target
