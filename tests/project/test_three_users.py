"""What three new users type stands in the docs. Playing them needs the network and minutes."""

from __future__ import annotations

import subprocess
import sys

from support import night as n
from support.folders import ROOT


def test_what_the_users_type_stands_in_the_docs() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "three_users.py"), "--check"]
    done = subprocess.run(words, env=n.command_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "12 steps stand in the docs" in done.stdout
