"""The code of docs/python.md and docs/migration.md runs, from the first block of a page to its last."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from support import night as n
from support.folders import ROOT


@pytest.mark.parametrize(("page", "n_blocks"), [("python.md", 12), ("migration.md", 2)])
def test_the_code_of_the_page_runs(page: str, n_blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "migration.md":  # frames where the defaults of the configuration look for them
        n.whole_night(tmp_path)
        shutil.copy(ROOT / "config_calibration_frames.yaml", tmp_path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    languages = "python|console" if page == "python.md" else "python"
    blocks = re.findall(rf"^```({languages})\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == n_blocks
    names: dict[str, object] = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, f"docs/{page}", "exec"), names)  # noqa: S102 our own page
            continue
        for line in block.splitlines():
            done = n.ostcal(*shlex.split(line.removeprefix("$ ostcal ")))
            assert done.exit_code == 0, f"{line}: {done.text}"
