"""Damaged configurations: values, or a ConfigError whose lines say where; never a hang, never much memory."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ostcal.cli import main
from ostcal.config import FILE_LIMIT_BYTES, Config, digest, dump, load_config
from ostcal.errors import ConfigError
from support.folders import ROOT
from support.fuzzing import LONGEST_S, Refusals, change_bytes, in_time, little_memory, mutations

MUTATIONS = mutations(1000)
TOKENS = (
    b"&a [*a]", b"&a", b"*a", b"<<: *a", b"<<: [*a, *a]", b"!!python/object/apply:os.system ['true']", b"!!binary x",
    b"!!python/name:os.system", b"!!int 7", b"!<x>", b"%YAML 9.9\n---\n", b"---\n", b"...\n", b"? [1, 2]\n: 3\n", b"\t",
    b"[" * 200, b"{" * 200, b"- " * 200, b"{a: " * 200, b"9" * 5000, b"-" + b"9" * 300, b"1e999", b".nan", b".inf",
    b"-.inf", b"0x" + b"f" * 300, b"0o17", b"1_000", b"12:30:45", b"2026-11-21", b"null", b"~", b"yes", b"''", b'"',
    b"'", b"|", b">", b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"\\ud800"', b'"\\UFFFFFFFF"', b"\x85",
    b"\r", b"\n", b": ", b"#", b"../../x", b"/dev/zero", b"4 GiB", b"1e30 GiB", b"-1", b"0", b"x" * 3000,
    b"[]", b"{}", b"[1, 2, 3]", b"{a: 1}",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc (Linux)")


def samples() -> list[bytes]:
    """Return the configuration with every key and its comments, one with values of users, and one that has aliases."""
    root = ROOT
    aliases = (
        b"master_frames: &m\n  output_dir: m\n  rejection_method: median\nquality: {}\nother: {<<: *m, x: [*m, *m]}\n"
    )
    return [dump(Config()).encode(), (root / "config_calibration_frames.yaml").read_bytes(), aliases]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage a configuration: values and lines as often as bytes."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 10))):
        if rng.random() < 0.6:
            change_line(damaged, rng)
        else:
            change_bytes(damaged, rng, TOKENS)
    return bytes(damaged)


def change_line(data: bytearray, rng: random.Random) -> None:
    """Return a line another value, key or depth, or put it elsewhere."""
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    key, colon, _ = bytes(lines[at]).partition(b":")
    match rng.randrange(6):
        case 0 | 1 | 2 if colon:
            lines[at] = bytearray(key + b": " + rng.choice(TOKENS))
        case 3:
            lines[at], lines[other] = lines[other], lines[at]
        case 4:
            lines[at] = bytearray(b" " * rng.randrange(9)) + lines[at].lstrip()
        case _:
            lines.insert(at, lines[other])
    data[:] = b"\n".join(lines)


def use(path: Path) -> None:
    """Load; what is loaded can be written and read again to the same values."""
    loaded = load_config(path)
    again = path.with_name("again.yaml")
    again.write_text(dump(loaded), encoding="utf-8")
    assert digest(load_config(again)) == digest(loaded)


def test_damaged_configurations(tmp_path: Path) -> None:
    rng, counts, path = random.Random("YAML"), Refusals(), tmp_path / "c.yaml"
    wholes = samples()
    with little_memory():
        for case in range(MUTATIONS):
            data = mutated(rng.choice(wholes), rng)
            path.write_bytes(data)
            with counts.case(f"YAML, mutation {case}", data):
                use(path)
    assert counts.refused + counts.accepted == MUTATIONS
    assert min(counts.refused, counts.accepted) > MUTATIONS / 20


def test_the_command_says_what_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    rng, path = random.Random("command"), tmp_path / "c.yaml"
    (whole, *_) = samples()
    whole = whole.replace(b"output_dir: ", b"output_dir: " + str(tmp_path / "out").encode() + b"/")
    for case in range(MUTATIONS // 40):
        path.write_bytes(mutated(whole, rng))
        with in_time():
            result = CliRunner().invoke(main, ["masters", "--config", str(path), "--no-confirm"])
        assert isinstance(result.exception, SystemExit), (case, result.exception)
        assert result.exit_code in (1, 2), (case, result.output)
        assert "Traceback" not in result.output
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".fits", ".zarr")] == []


def aliases(levels: int) -> str:
    """Return lists of nine of the list before: nine to the power of the levels."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"master_frames:\n  output_dir: *a{levels - 1}\n"])


BOMBS: dict[str, Callable[[], str]] = {
    "aliases": lambda: aliases(9),
    "aliases in a merge": lambda: "a: &a {x: 1}\n" * 1 + "b: &b {<<: [" + "*a, " * 5000 + "*a]}\nquality:\n  <<: ["
    + "*b, " * 5000 + "*b]\n",
    "ring": lambda: "quality: &q\n  frames: *q\n",
    "ring of merges": lambda: "quality: &q\n  <<: *q\n",
    "brackets": lambda: "[" * (FILE_LIMIT_BYTES - 1),
    "braces": lambda: "{a: " * (FILE_LIMIT_BYTES // 4 - 1),
    "indents": lambda: "\n".join(" " * n + "a:" for n in range(500)),
    "dashes": lambda: "- " * (FILE_LIMIT_BYTES // 2 - 1),
    "questions": lambda: "? " * (FILE_LIMIT_BYTES // 2 - 1),
    "a long number": lambda: "master_frames: {sigma_low: " + "9" * (FILE_LIMIT_BYTES - 50) + "}",
    "a long version": lambda: "%YAML " + "9" * (FILE_LIMIT_BYTES - 50) + ".1\n---\n",
    "anchors": lambda: "\n".join(f"- &a{n} x" for n in range(FILE_LIMIT_BYTES // 14)),
    "lists of nothing": lambda: "x: [" + "[]," * (FILE_LIMIT_BYTES // 3 - 3) + "]",
    "small values": lambda: "x: [" + "1," * (FILE_LIMIT_BYTES // 2 - 4) + "]",
    "keys": lambda: "quality: {" + "".join(f"k{n}: 1, " for n in range(FILE_LIMIT_BYTES // 14)) + "}",
    "tags": lambda: "x: [" + "!!a b, " * (FILE_LIMIT_BYTES // 7 - 4) + "]",
    "quotes": lambda: 'x: "' + "\\x41" * (FILE_LIMIT_BYTES // 4 - 4) + '"',
    "lines": lambda: "\n" * (FILE_LIMIT_BYTES - 1),
    "question marks in a flow": lambda: "[" + "?," * (FILE_LIMIT_BYTES // 2 - 2) + "]",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_is_made_to_keep_a_parser_busy(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BOMBS[bomb](), encoding="ascii")
    assert path.stat().st_size <= FILE_LIMIT_BYTES
    counts, start_s = Refusals(), time.process_time()
    with little_memory(), counts.case(bomb, path.read_bytes()[:100]):
        load_config(path)
    assert time.process_time() - start_s < LONGEST_S / 2


def test_no_tag_makes_an_object(tmp_path: Path) -> None:
    trace, path = tmp_path / "made", tmp_path / "c.yaml"
    for tag in ("object/apply:os.mkdir", "object/new:os.mkdir", "object:os.mkdir", "name:os.mkdir", "module:os"):
        for section in ("other", "master_frames"):
            path.write_text(f"{section}:\n  output_dir: !!python/{tag} ['{trace}']\n", encoding="utf-8")
            if section == "other":
                load_config(path)
            else:
                with pytest.raises(ConfigError):
                    load_config(path)
            assert not trace.exists()
