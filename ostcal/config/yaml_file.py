"""The only reader and writer of YAML: bytes to nodes under bounds, nodes to plain values with the line of every key."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from ostcal.config.problems import GivenValues, Notice, one_line
from ostcal.config.sections import SECTION_NAMES, KeyPath
from ostcal.config.values import Plain, number_from_text
from ostcal.errors import ConfigError

FILE_LIMIT_BYTES = 1 << 17
"""A configuration has a few kB; PyYAML needs up to 1.5 s for 128 KiB (``[?,?,``), 12 s for 1 MiB: refused before it."""
DEPTH_LIMIT = 64
"""Our sections are three levels deep; PyYAML recurses per level, and Python stops at about 1000 frames."""
NODE_LIMIT = 20_000
"""Nodes of our sections with aliases expanded; our sections have about 80 keys."""

_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""Line ends of PyYAML."""


class _Loader(yaml.SafeLoader):
    """Compose nodes only: no scalar is given a type here, and nesting is bounded."""

    yaml_implicit_resolvers: Any = types.MappingProxyType({})

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            problem = f"nested deeper than {DEPTH_LIMIT} levels"
            raise yaml.composer.ComposerError(None, None, problem, None if parent is None else parent.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(path: str, ours: Collection[str] = SECTION_NAMES) -> GivenValues:
    """Read our sections of a UTF-8 file of at most `FILE_LIMIT_BYTES`; `ours` are the keys whose values matter."""
    label = path if path.isprintable() and path else ascii(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name holds a null character"
        raise ConfigError(f"{label}: the configuration cannot be read: {reason}") from error
    if len(data) > FILE_LIMIT_BYTES:
        raise ConfigError(
            f"{label}: larger than {FILE_LIMIT_BYTES} bytes; a configuration has a few kB, is this another file?"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[min(error.start, len(data) - 1)]
        raise ConfigError(f"{label}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error
    tree = _Tree(label, ours)
    values = tree.read(_compose(text, label))
    return GivenValues(values=values, label=label, lines=tree.lines, problems=tree.problems)


def _compose(text: str, label: str) -> yaml.Node | None:
    """Parse YAML into nodes; ``None`` for a text without any."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = len(_LINE_BREAK.findall(text, 0, error.position)) + 1
        code = ord(error.character) if isinstance(error.character, str) else error.character
        raise ConfigError(f"{label}, line {line}: character U+{code:04X} cannot be in a YAML file") from error
    except yaml.MarkedYAMLError as error:
        line, reason = _syntax_problem(text, error)
        raise ConfigError(f"{label}, line {line}: {reason}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() fail on "\UFFFFFFFF" and on %YAML with a very long version
        line = 1 if loader is None else loader.line + 1
        raise ConfigError(f"{label}, line {line}: not valid YAML: {one_line(str(error))}") from error


def _syntax_problem(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Return the line and the reason of a syntax error, in words for people who seldom write YAML."""
    mark = error.problem_mark or error.context_mark
    index = mark.line if mark is not None else 0
    rows = _LINE_BREAK.split(text)
    row = rows[index] if index < len(rows) else ""
    problem = error.problem or "it cannot be read"
    if "'\\t'" in problem or "\t" in row[: len(row) - len(row.lstrip())]:
        return index + 1, "a tab; YAML wants spaces here"
    if error.context == "while scanning a quoted scalar" and error.context_mark is not None:
        return error.context_mark.line + 1, "the quote opened here is not closed"
    if "expected a single document" in (error.context or ""):
        return index + 1, "a second document begins here; leave one, without '---' between sections"
    if problem.startswith("nested deeper"):
        return index + 1, problem
    return index + 1, f"not valid YAML: {problem}; look here and above for a missing colon, quote, bracket or space"


class _Tree:
    """The nodes of our sections as plain values, with the line of every key and what is wrong with the writing."""

    def __init__(self, label: str, ours: Collection[str]) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Notice] = []
        self._label = label
        self._ours = ours
        self._visits = 0

    def read(self, root: yaml.Node | None) -> dict[str, object]:
        """Return the top level: our sections with their values, other keys as an empty group or empty text."""
        if root is None or _is_null(root):
            return {}
        if not isinstance(root, yaml.MappingNode):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            raise ConfigError(
                f"{self._label}, line {_line_of(root)}: {kind} at the top level; sections such as master_frames: with"
                " their keys below are wanted"
            )
        return self._mapping(root, (), 0)

    def _value(self, node: yaml.Node, path: KeyPath, depth: int) -> object:
        self._visit(node, depth)
        if node.tag not in _CORE_TAGS:
            self._problem(
                path, f"the tag {one_line(node.tag)} is not understood; write the value itself", _line_of(node)
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, path, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            return None if _is_null(node) else Plain(node.value)
        return str(node.value)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, object]:
        """Return the keys of a mapping; those that ``<<`` merges into it come first, so that its own override them."""
        values: dict[str, object] = {}
        own: dict[str, int] = {}
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                values = self._merged(value_node, path, depth) | values
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                continue
            line = _line_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(path, "a key must be one word", line, if_ours=bool(path))
                continue
            name = str(key_node.value)
            is_ours = bool(path) or name in self._ours
            if name in own:
                self._problem((*path, name), f"given twice, also on line {own[name]}; keep one", line, if_ours=is_ours)
                continue
            own[name] = line
            self.lines[(*path, name)] = line
            if is_ours:
                values[name] = self._value(value_node, (*path, name), depth + 1)
            else:  # all that matters of another program's value is whether it is a section
                values[name] = {} if isinstance(value_node, yaml.MappingNode) else Plain("")
        return values

    def _merged(self, node: yaml.Node, path: KeyPath, depth: int) -> dict[str, object]:
        """Return the keys of one mapping or of a list of them; the first mapping of a list wins."""
        self._visit(node, depth)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth + 1)
        values: dict[str, object] = {}
        if not isinstance(node, yaml.SequenceNode):
            self._problem((*path, "<<"), "only groups of keys can be merged", _line_of(node))
            return values
        for item in reversed(node.value):
            values |= self._merged(item, path, depth + 1)
        return values

    def _problem(self, path: KeyPath, text: str, line: int, *, if_ours: bool = True) -> None:
        if if_ours:
            self.problems.append(Notice(path=path, text=text, line=line))

    def _visit(self, node: yaml.Node, depth: int) -> None:
        """Count a node: aliases make a few lines into a billion of them, or into a ring."""
        self._visits += 1
        if depth > DEPTH_LIMIT or self._visits > NODE_LIMIT:
            raise ConfigError(
                f"{self._label}, line {_line_of(node)}: more than {NODE_LIMIT} values or {DEPTH_LIMIT} levels with"
                " all aliases written out; a configuration has about 80"
            )


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == "<<"


class _Dumper(yaml.SafeDumper):
    """Write text that looks like a number (to us or to YAML 1.1) in quotes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "'" if number_from_text(text) is not None else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def write_yaml(values: Mapping[str, object]) -> str:
    """Write plain values as a YAML document, in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
