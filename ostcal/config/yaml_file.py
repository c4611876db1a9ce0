"""The only reader and writer of YAML: bytes to nodes under bounds, nodes to plain values with the line of every key."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import yaml

from ostcal.config.given import GivenValues, KeyPath, Notice, Place, one_line
from ostcal.config.problems import backslash_hint
from ostcal.config.sections import SECTION_NAMES
from ostcal.config.values import Escaped, Plain, number_from_text
from ostcal.errors import ConfigError
from ostcal.opening import open_regular

FILE_LIMIT_BYTES = 1 << 17
"""A configuration has a few kB; PyYAML needs up to 1.5 s for 128 KiB (``[?,?,``), 12 s for 1 MiB: refused before it."""
DEPTH_LIMIT = 64
"""Our sections are three levels deep; PyYAML recurses per level, and Python stops at about 1000 frames."""
NODE_LIMIT = 20_000
"""Nodes of our sections with aliases expanded; our sections have about 80 keys."""

_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_FOLDER_WORD_FIRST = re.compile(r"\s*\{\w+\}")
"""A value such as ``{night}/darks`` is text, where YAML sees a mapping."""
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""Line ends of PyYAML."""


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = frozenset("0abtnvfreNLP_\t")
"""Escapes of YAML that stand for characters which no path has."""
_DRIVE = re.compile(r"[A-Za-z]:\\(?!\\)")


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


def read_yaml(path: str, ours: Collection[str] = SECTION_NAMES, *, what: str = "the configuration") -> GivenValues:
    """Read our sections of a UTF-8 file of at most `FILE_LIMIT_BYTES`; `ours` are the keys whose values matter.

    `what` names the file in the message where it cannot be read.
    """
    label = path if path.isprintable() and path else ascii(path)
    try:
        with open(path, "rb", opener=open_regular) as stream:
            data = stream.read(FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name holds a null character"
        raise ConfigError(f"{label}: {what} cannot be read: {reason}") from error
    return parse_yaml(data, label, ours)


def parse_yaml(data: bytes, label: str, ours: Collection[str] = SECTION_NAMES) -> GivenValues:
    """Read our sections of a UTF-8 text of at most `FILE_LIMIT_BYTES`; `label` names it in messages."""
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
    tree = _Tree(label, ours, text)
    values = tree.read(_compose(text, Place(label=label, line=1)))
    return GivenValues(values=values, label=label, places=tree.places, problems=tree.problems)


def parse_value(text: str, label: str, path: KeyPath) -> GivenValues:
    """Read one value, such as ``2.7`` or ``[L, R]``; `label` names the option or the variable that holds it."""
    if len(text) > FILE_LIMIT_BYTES:
        raise ConfigError(f"{label}: longer than {FILE_LIMIT_BYTES} characters")
    if _FOLDER_WORD_FIRST.match(text):
        text = "'" + text.strip().replace("'", "''") + "'"
    tree = _Tree(label, (), text, in_lines=False)
    node = _compose(text, Place(label=label))
    value = None if node is None else tree.value(node, path)
    section, *groups = path
    for name in reversed(groups):
        value = {name: value}
    return GivenValues(values={section: value}, label=label, places={path: Place(label=label)}, problems=tree.problems)


def _compose(text: str, start: Place) -> yaml.Node | None:
    """Parse YAML into nodes; ``None`` for a text without any. Errors name the line if the place has one."""

    def at(line: int) -> Place:
        return start if start.line is None else replace(start, line=line)

    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = len(_LINE_BREAK.findall(text, 0, error.position)) + 1
        code = ord(error.character) if isinstance(error.character, str) else error.character
        raise ConfigError(f"{at(line)}: character U+{code:04X} cannot be in a YAML file") from error
    except yaml.MarkedYAMLError as error:
        line, reason = _syntax_problem(text, error)
        raise ConfigError(f"{at(line)}: {reason}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() fail on "\UFFFFFFFF" and on %YAML with a very long version
        line = 1 if loader is None else loader.line + 1
        raise ConfigError(f"{at(line)}: not valid YAML: {one_line(str(error))}") from error


def _syntax_problem(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Return the line and the reason of a syntax error, in words for people who seldom write YAML."""
    mark = error.problem_mark or error.context_mark
    index = mark.line if mark is not None else 0
    rows = _LINE_BREAK.split(text)
    row = rows[index] if index < len(rows) else ""
    problem = error.problem or "it cannot be read"
    if "'\\t'" in problem or "\t" in row[: len(row) - len(row.lstrip())]:
        return index + 1, "a tab; YAML wants spaces here"
    if (
        error.context == "while scanning a double-quoted scalar"
        and "escape" in problem
        and error.context_mark is not None
    ):
        opened = error.context_mark
        path = rows[opened.line][opened.column + 1 :].partition('"')[0] if opened.line < len(rows) else ""
        return index + 1, f'"{one_line(path)}" is not valid YAML: {backslash_hint(path)}'
    if error.context == "while scanning a quoted scalar" and error.context_mark is not None:
        return error.context_mark.line + 1, "the quote opened here is not closed"
    if "expected a single document" in (error.context or ""):
        return index + 1, "a second document begins here; leave one, without '---' between sections"
    if problem.startswith("nested deeper"):
        return index + 1, problem
    return index + 1, f"not valid YAML: {problem}; look here and above for a missing colon, quote, bracket or space"


class _Tree:
    """The nodes of our sections as plain values, with the line of every key and what is wrong with the writing."""

    def __init__(self, label: str, ours: Collection[str], text: str, *, in_lines: bool = True) -> None:
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[Notice] = []
        self._label = label
        self._ours = ours
        self._text = text
        self._in_lines = in_lines
        self._visits = 0

    def read(self, root: yaml.Node | None) -> dict[str, object]:
        """Return the top level: our sections with their values, other keys as an empty group or empty text."""
        if root is None or _is_null(root):
            return {}
        if not isinstance(root, yaml.MappingNode):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            raise ConfigError(
                f"{self._place(_line_of(root))}: {kind} at the top level; sections such as master_frames: with"
                " their keys below are wanted"
            )
        return self._mapping(root, (), 0)

    def value(self, node: yaml.Node, path: KeyPath, depth: int = 0) -> object:
        """Return a node as a plain value."""
        self._visit(node, depth)
        if node.tag not in _CORE_TAGS:
            self._problem(
                path, f"the tag {one_line(node.tag)} is not understood; write the value itself", _line_of(node)
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, path, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            return None if _is_null(node) else Plain(node.value)
        return self._quoted(node)

    def _quoted(self, node: yaml.Node) -> str:
        """Return text in quotes or in a block, marked where a backslash in it was probably meant as itself."""
        text = str(node.value)
        if not isinstance(node, yaml.ScalarNode) or node.style != '"':
            return text
        source = self._text[node.start_mark.index + 1 : node.end_mark.index - 1]
        escapes = set(_ESCAPE.findall(source)) - {"\\"}
        is_path = _DRIVE.match(source) is not None
        return Escaped(text, source) if escapes & _CONTROLS or (escapes and is_path) else text

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
            self.places[(*path, name)] = self._place(line)
            values[name] = self.value(value_node, (*path, name), depth + 1) if is_ours else _outline(value_node)
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
            self.problems.append(Notice(path=path, text=text, place=self._place(line)))

    def _place(self, line: int) -> Place:
        return Place(label=self._label, line=line if self._in_lines else None)

    def _visit(self, node: yaml.Node, depth: int) -> None:
        """Count a node: aliases make a few lines into a billion of them, or into a ring."""
        self._visits += 1
        if depth > DEPTH_LIMIT or self._visits > NODE_LIMIT:
            raise ConfigError(
                f"{self._place(_line_of(node))}: more than {NODE_LIMIT} values or {DEPTH_LIMIT} levels with"
                " all aliases written out; a configuration has about 80"
            )


def _outline(node: yaml.Node) -> object:
    """Return what matters of another program's value: whether it is a section, and the names of its keys."""
    if not isinstance(node, yaml.MappingNode):
        return Plain("")
    return {str(key.value): None for key, _ in node.value if isinstance(key, yaml.ScalarNode)}


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


def write_flow(value: object) -> str:
    """Write a value on one line that `parse_value` reads back to the same value."""
    text = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=1 << 20)
    return text.strip().removeprefix("[").removesuffix("]")


def write_yaml(values: Mapping[str, object]) -> str:
    """Write plain values as a YAML document, in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
