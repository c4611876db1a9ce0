"""Count what decides how easily the code is read: lines, one-use helpers, long files, names with two meanings.

Run it before and after a change: ``python scripts/code_figures.py [ROOM] [--list]``. With ``--list`` it also names each
one-use helper and each name. It reads sources as text and imports nothing of the package.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "ostcal"
LONG_FILE_LINES = 500
LONG_FUNCTION_LINES = 60
MANY_PARAMETERS = 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One module: its place below the package, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """Return the first folder below the package, or 'ground' for modules beside the rooms."""
        parts = self.path.relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else "ground"

    @property
    def name(self) -> str:
        """Return the path below the package, as shown to readers."""
        return self.path.relative_to(PACKAGE).as_posix()

    def functions(self) -> Iterator[Function]:
        """Yield every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def docstrings(self) -> Iterator[ast.Constant]:
        """Yield the docstring nodes of the module, its classes and its functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
                first = node.body[0]
                assert isinstance(first, ast.Expr)
                assert isinstance(first.value, ast.Constant)
                yield first.value


def read_sources(room: str | None) -> list[Source]:
    """Read all modules of the package, or those of one room."""
    sources = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        sources.append(Source(path, text, ast.parse(text)))
    return [one for one in sources if room in (None, one.room)]


def count_lines(source: Source) -> Counter[str]:
    """Count code, docstring, comment and blank lines of a module."""
    lines = source.text.splitlines()
    docstring_lines = {
        number for node in source.docstrings() for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    comment_lines = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1].lstrip().startswith("#")
    }
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        if number in docstring_lines:
            counts["docstring"] += 1
        elif number in comment_lines:
            counts["comment"] += 1
        elif line.strip():
            counts["code"] += 1
        else:
            counts["blank"] += 1
    return counts


def one_use_helpers(source: Source) -> list[Function]:
    """Return the private functions and methods that their module names exactly once beside the definition."""
    used = Counter(node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name))
    used += Counter(node.attr for node in ast.walk(source.tree) if isinstance(node, ast.Attribute))
    return [
        function
        for function in source.functions()
        if function.name.startswith("_") and not function.name.startswith("__") and used[function.name] == 1
    ]


def names_with_two_meanings(sources: list[Source]) -> dict[str, list[str]]:
    """Return module names, public classes and public functions that more than one module defines."""
    places: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        if source.path.stem not in ("__init__", "__main__"):
            places[f"module {source.path.stem}"].append(source.name)
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                places[f"{kind} {node.name}"].append(source.name)
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def first_words(sources: list[Source]) -> Counter[str]:
    """Count the first words of the docstrings of functions and classes."""
    return Counter(
        match.group()
        for source in sources
        for node in source.docstrings()
        if (match := re.search(r"\w+", str(node.value)))
    )


def length_without_docstring(function: Function) -> int:
    """Return the lines of a function, its docstring left out."""
    docstring = ast.get_docstring(function, clean=False)
    return (function.end_lineno or function.lineno) - function.lineno + 1 - len((docstring or "").splitlines())


def print_figures(sources: list[Source], is_listed: bool) -> None:
    """Print the table of rooms and the figures of the whole."""
    rooms = sorted({source.room for source in sources})
    print(
        f"{'room':12s}{'files':>6s}{'lines':>8s}{'code':>8s}{'docs':>7s}{'functions':>10s}{'one-use':>9s}{'share':>7s}"
    )
    for room in [*rooms, "all"]:
        inside = [source for source in sources if room in ("all", source.room)]
        lines = sum((count_lines(source) for source in inside), Counter())
        n_functions = sum(1 for source in inside for _ in source.functions())
        n_one_use = sum(len(one_use_helpers(source)) for source in inside)
        print(
            f"{room:12s}{len(inside):6d}{lines.total():8d}{lines['code']:8d}{lines['docstring']:7d}"
            f"{n_functions:10d}{n_one_use:9d}{n_one_use / max(1, n_functions):7.0%}"
        )
    long_files = [(len(one.text.splitlines()), one.name) for one in sources]
    long_files = sorted((one for one in long_files if one[0] > LONG_FILE_LINES), reverse=True)
    functions = [(source, function) for source in sources for function in source.functions()]
    n_long = sum(length_without_docstring(function) > LONG_FUNCTION_LINES for _, function in functions)
    n_many = sum(len(one.args.args) + len(one.args.kwonlyargs) > MANY_PARAMETERS for _, one in functions)
    shared = names_with_two_meanings(sources)
    words = first_words(sources)
    print(
        f"files over {LONG_FILE_LINES} lines: {len(long_files)}"
        + "".join(f"\n  {n:5d} {name}" for n, name in long_files)
    )
    print(
        f"functions over {LONG_FUNCTION_LINES} lines: {n_long}, with more than {MANY_PARAMETERS} parameters: {n_many}"
    )
    print(f"names that two modules define: {len(shared)}")
    print("first words of docstrings: " + ", ".join(f"{word} {count}" for word, count in words.most_common(6)))
    if is_listed:
        for name, found in shared.items():
            print(f"  {name}: {', '.join(found)}")
        for source in sources:
            for function in one_use_helpers(source):
                print(f"  {source.name}:{function.lineno} {function.name} {length_without_docstring(function)} lines")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("room", nargs="?", help="only this folder of the package")
    parser.add_argument("--list", action="store_true", help="name the helpers and the names")
    arguments = parser.parse_args()
    sources = read_sources(arguments.room)
    if not sources:
        sys.exit(f"there is no room {arguments.room!r} below {PACKAGE.name}/")
    print_figures(sources, arguments.list)


if __name__ == "__main__":
    main()
