"""Sum up the JSON of pip-audit, on standard input: known weaknesses, and the packages of which nothing is known.

Exit code: 0 where none is known, 1 where one is, 2 where no package could be audited, which is no verdict.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any


def summary(dependencies: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines: weaknesses, packages without an audit, the verdict."""
    weak = [one for one in dependencies if one.get("vulns")]
    unaudited = [one for one in dependencies if "skip_reason" in one]
    for one in weak:
        for found in one["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            yield f"{one['name']} {one['version']}: {found['id']}, mended in {fixed}"
    total = len(dependencies)
    if unaudited:
        names = ", ".join(one["name"] for one in unaudited)
        yield f"{len(unaudited)} of {total} packages could not be audited: {names}"
        yield f"for the first: {unaudited[0]['skip_reason']}"
    if len(unaudited) == total:
        yield "no verdict: the index knows nothing of any package"
    else:
        yield f"{len(weak) or 'none'} of {total - len(unaudited)} audited packages with a known weakness"


def exit_code(dependencies: list[dict[str, Any]]) -> int:
    """Return 0 for no known weakness, 1 for one, 2 for no verdict."""
    if any(one.get("vulns") for one in dependencies):
        return 1
    return 2 if all("skip_reason" in one for one in dependencies) else 0


def main() -> int:
    """Print the summary; return the exit code."""
    dependencies = json.load(sys.stdin)["dependencies"]
    print("\n".join(summary(dependencies)))
    return exit_code(dependencies)


if __name__ == "__main__":
    sys.exit(main())
