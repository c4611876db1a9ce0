"""Sections whose names look like ours: errors where they would be passed over and something of ours with them.

The file may hold sections of other programs, which are nobody's business here. A section is taken for one of ours under
a wrong name if people call ours so (`masters`), if its name is nearly one of ours that no other program has
(`master_frame`), or if its name is near and it holds a key that ours alone has (`computer: {workers: 2}`), or if it is
a group outside its section (`cooling: {enable_cooling: true}`).
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping

from ostcal.config.given import GivenValues, KeyPath, Notice
from ostcal.config.problems import NAME_CUTOFF, nearest
from ostcal.config.sections import ALIASES, SECTION_NAMES, SECTIONS, walk_keys

CALLED: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(("bias", "biases", "bias_capture", "dark", "darks", "darks_capture"), "dark_capture"),
        **dict.fromkeys(("flat", "flats", "flats_capture"), "flat_capture"),
        **dict.fromkeys(("master", "masters", "calibration", "combine", "rejection"), "master_frames"),
        **dict.fromkeys(("inputs", "input_dirs", "input_frames"), "input"),
    }
)
"""What sections of ours are called by people who have not looked them up."""
_CALLED_OR_OTHERS: Mapping[str, str] = types.MappingProxyType({**CALLED, "frames": "input", "folders": "input"})
"""Those too that other programs have, and names that are near: ours if they hold a key that ours alone has."""
_NEARLY = 0.85
"""As near as ours alone are: ``master_frame`` is 0.96 near ``master_frames``, but ``light_capture`` 0.80 near
``flat_capture``."""
_ROUGHLY = 0.6
"""Near enough if the section holds a key that only ours has: ``dark_frames`` is 0.61 near ``dark_capture``."""
_FRAMES = ("dark_capture", "flat_capture")


def misnamed_sections(given: GivenValues) -> Iterator[Notice]:
    """Find sections of ours under a name that is not theirs."""
    for name, value in _others(given):
        meant = _meant(name, value)
        if meant is not None:
            frames = ", or input.dirs for folders of frames that you have" if meant in _FRAMES else ""
            yield given.notice((name,), f"no section has this name; did you mean {meant}{frames}?")


def misplaced_names(given: GivenValues) -> Iterator[Notice]:
    """Find names that may be ours and are ignored: sections with a near name, and our keys outside their section."""
    homes = {path[-1]: path[0] for path, _ in walk_keys() if path[0] != "video"}
    for name, value in _others(given):
        if near := nearest(name, SECTION_NAMES, cutoff=NAME_CUTOFF):
            yield given.notice((name,), f"ignored, because no section has this name; did you mean {near}?")
        elif name in homes and not isinstance(value, Mapping):
            yield given.notice((name,), f"ignored, because it is outside a section; it is a key of {homes[name]}")


def _others(given: GivenValues) -> Iterator[tuple[str, object]]:
    """Yield names at the top that are not ours, with what stands below them."""
    for name, value in given.values.items():
        if isinstance(name, str) and name not in SECTION_NAMES:
            yield name, value


def _meant(name: str, value: object) -> str | None:
    """Return the section of ours that is meant; ``None`` if it is more likely another program's."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in CALLED:
        return CALLED[plain]
    near = nearest(name, SECTION_NAMES, cutoff=_NEARLY)
    if near is not None and "_" in near:
        return near
    if not isinstance(value, Mapping):
        return None
    called = difflib.get_close_matches(plain, _CALLED_OR_OTHERS, n=1, cutoff=NAME_CUTOFF)
    if called and not _keys_of(_CALLED_OR_OTHERS[called[0]]).isdisjoint(value):
        return _CALLED_OR_OTHERS[called[0]]
    if group := _group_called(plain, value):
        return group
    roughly = difflib.get_close_matches(plain, SECTION_NAMES, n=len(SECTION_NAMES), cutoff=_ROUGHLY)
    return next((section for section in roughly if not _keys_of(section).isdisjoint(value)), None)


def _group_called(name: str, value: Mapping[object, object]) -> str | None:
    """Return the group of a section that stands outside it: ``video.cooling``, with keys that it alone has."""
    homes: dict[object, set[KeyPath]] = {}
    for path, _ in walk_keys():
        homes.setdefault(path[-1], set()).add(path[:-1])
    places = {place for key in value for place in homes.get(key, ()) if len(homes[key]) == 1}
    return next((".".join(place) for place in sorted(places) if len(place) > 1 and place[-1] == name), None)


def _keys_of(section: str) -> set[str]:
    """Return the keys that this section alone has: many programs have an ``output_dir`` and a ``port``."""
    ours = ALIASES.get(section, section)
    others = {key for name, model in SECTIONS.items() if name != ours for key in model.model_fields}
    return set(SECTIONS[ours].model_fields) - others
