"""`FolderWatch`: masters and calibrated frames of what another program writes into a folder."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ostcal.build.api import MasterFrameCreator
from ostcal.build.from_config import kinds_of, overscan_of, request_of
from ostcal.build.request import Watcher
from ostcal.clock import Clock, SystemClock
from ostcal.config import Config
from ostcal.errors import InputError
from ostcal.fits.read import FitsFrame
from ostcal.frames import FrameType
from ostcal.inputs.grouping import Frame, Group, describe, group_frames
from ostcal.inputs.science_frames import inspect_science, is_no_science
from ostcal.places.night_folders import root_of
from ostcal.places.paths import is_below, is_remote
from ostcal.science.api import CalibrationApplier
from ostcal.status import Status
from ostcal.workflow.incoming import Identity, IncomingFile, IncomingFiles
from ostcal.workflow.watched_lights import Due, WatchedLights

logger = logging.getLogger(__name__)

MAX_LIGHTS = 50
"""Lights that are calibrated in one round; the others follow in the next."""
_LOOK_SHARE = 4.0
"""Pause after a look, in times that it took: a slow network folder is not listed without end."""


@dataclass(frozen=True, kw_only=True)
class WatchRules:
    """When a group is complete, and what is made of lights."""

    complete_after: int | None = None
    """Frames of a complete group; ``None`` waits until none has come for `quiet_s`."""
    quiet_s: float = 300.0
    poll_s: float = 5.0
    """Between two looks at the folder."""
    calibrate: bool = False
    output_dir: str | None = None
    """Of calibrated frames; ``None`` is ``calibrated`` beside the masters."""


@dataclass(frozen=True, kw_only=True)
class WatchCallbacks:
    """Called with what was made."""

    building: Watcher = field(default_factory=Watcher)
    """Follows the builds."""
    masters: Callable[[MasterFrameCreator, Status], None] = lambda creator, status: None
    calibrated: Callable[[Status], None] = lambda status: None


class FolderWatch:
    """Watches a folder; nothing is remembered outside of the files that are made, so that it may be ended at any time.

    Each build gets the files of all complete groups; masters whose frames, settings and darks have not changed stay as
    they are (`master_frames.only_changed`), after a restart too.

    Raises
    ------
    InputError
        If the folder does not exist, or is in an object store.
    """

    def __init__(
        self,
        config: Config,
        directory: str,
        rules: WatchRules,
        callbacks: WatchCallbacks | None = None,
        clock: Clock | None = None,
    ) -> None:
        if is_remote(directory) or not os.path.isdir(directory):
            raise InputError(f"{directory}: is no folder of this computer; name the folder that frames are written to")
        self._config, self._directory, self._rules = config, directory, rules
        self._callbacks = callbacks or WatchCallbacks()
        self.clock = clock or SystemClock()
        self._creator = MasterFrameCreator(config, watcher=self._callbacks.building)
        self._applier = CalibrationApplier(config)
        self._target_dir = rules.output_dir or self._applier.default_output_dir
        overscan, kinds = overscan_of(config), kinds_of(config)

        def inspect(path: str) -> FitsFrame:
            return inspect_science(path, overscan, kinds)[0]

        own = (root_of(config.master_frames.output_dir), self._target_dir)
        excluded = [folder for folder in own if not is_below(directory, folder)]
        self._files = IncomingFiles(directory, excluded, inspect, self.clock, rules.quiet_s)
        self._grouped: tuple[tuple[str, ...], tuple[Group, ...]] = ((), ())
        """Frames, and their groups: grouping is done again when there are others."""
        self._built: list[frozenset[Identity]] = []
        """The frames of each group that a build was given."""
        self._retry_at_s = -math.inf
        """When a build that failed as a whole is tried again."""
        self._lights = WatchedLights()

    def look(self) -> None:
        """Look at the folder once, without making anything."""
        self._files.look()

    def run(self) -> None:
        """Go on until Ctrl-C or SIGTERM; the pause between two looks grows with the time that they take."""
        while True:
            began_s = self.clock.now_s()
            self.look()
            look_s = self.clock.now_s() - began_s
            self.make()
            try:
                self.clock.sleep(max(self._rules.poll_s, _LOOK_SHARE * look_s))
            except KeyboardInterrupt:  # nothing is in work
                logger.info("%s: is not watched any more", self._directory)
                return

    def run_once(self) -> None:
        """Make what can be made of the files that are there, as soon as they do not change."""
        self._files.look()
        previous = -1
        while previous != (waiting := self._files.waiting):  # of very many files only some are inspected in one look
            previous = waiting
            self.clock.sleep(self._rules.poll_s)
            self._files.look()
        self._files.name_incomplete()
        self.make(is_last=True)

    def make(self, *, is_last: bool = False) -> None:
        """Make what the last look allows; with `is_last` no further frames are waited for."""
        frames = {file.path: file for file in self._files.complete}
        lights = {path for path, file in frames.items() if file.frame and not is_no_science(file.frame.metadata)}
        is_waiting = self._make_masters({p: file for p, file in frames.items() if p not in lights}, is_last)
        if self._rules.calibrate and (is_last or not is_waiting):
            self._calibrate([frames[path] for path in sorted(lights)], is_last)

    # ---- masters ----

    def _make_masters(self, files: Mapping[str, IncomingFile], is_last: bool) -> bool:
        """Make the masters of groups that are complete; return whether more frames of any group may come."""
        now = self.clock.now_s()
        groups = [_Members.of(group, files) for group in self._groups(files)]
        min_frames = self._config.master_frames.min_frames
        usable = [group for group in groups if len(group.files) >= min_frames]
        due = [group for group in usable if self._news(group) and (is_last or self._is_complete(group, now))]
        may_grow = any(self._news(group) and not self._is_quiet(group, now) for group in groups if group not in due)
        if not due or (now < self._retry_at_s and not is_last):
            return may_grow
        for group in due:
            logger.info("%s: complete", group.description)
        inputs = [group for group in usable if group in due or not (self._news(group) or self._has_shrunk(group))]
        status = self._creator.create_masters_of(
            [path for group in inputs for path in group.files], {group.kind for group in inputs}
        )
        if self._creator.report is None:  # another run is writing there, or the disk is full
            self._retry_at_s = now + self._rules.quiet_s
        else:
            self._built += [group.identities for group in due]
            self._lights.try_again()
        self._callbacks.masters(self._creator, status)
        return may_grow

    def _groups(self, files: Mapping[str, IncomingFile]) -> Sequence[Group]:
        paths = tuple(files)
        if paths != self._grouped[0]:
            frames = [Frame(label=path, metadata=f.frame.metadata) for path, f in files.items() if f.frame is not None]
            rules = request_of(self._config, bias=True, darks=True, flats=True, inputs=()).rules
            grouping = group_frames(frames, rules)
            self._grouped = paths, (*grouping.groups, *grouping.too_small)
        return self._grouped[1]

    def _news(self, group: _Members) -> int:
        """Return how many frames of a group no build was given."""
        return len(group.identities.difference(*self._built))

    def _is_quiet(self, group: _Members, now: float) -> bool:
        return now - group.newest_s >= self._rules.quiet_s

    def _is_complete(self, group: _Members, now: float) -> bool:
        """Return whether a group is to be combined: quiet, or with as many new frames as make it complete."""
        enough = self._rules.complete_after
        return self._is_quiet(group, now) or (enough is not None and self._news(group) >= enough)

    def _has_shrunk(self, group: _Members) -> bool:
        """Return whether frames are gone that its master was made of: it is not made again of the rest."""
        return any(built & group.identities and built - group.identities for built in self._built)

    # ---- lights ----

    def _calibrate(self, lights: Sequence[IncomingFile], is_last: bool) -> None:
        """Calibrate lights that are not calibrated yet, some in a round, into the same folders below the target."""
        todo: defaultdict[tuple[str, Due], list[str]] = defaultdict(list)
        for light in lights:
            folder = self._target_of(os.path.dirname(light.path))
            due = self._lights.due(light, folder)
            if due is not Due.NO:
                todo[folder, due].append(light.path)
            if not is_last and sum(map(len, todo.values())) >= MAX_LIGHTS:
                break
        for (folder, due), paths in todo.items():
            status = self._applier.calibrate_files(paths, folder, overwrite=due is Due.AGAIN)
            self._lights.tried(paths, folder, status.data["calibrated"])
            self._callbacks.calibrated(status)

    def _target_of(self, folder: str) -> str:
        below = os.path.relpath(folder, self._directory)
        return self._target_dir if below == os.curdir else os.path.join(self._target_dir, below)


@dataclass(frozen=True, kw_only=True)
class _Members:
    """The files of a group."""

    kind: FrameType
    description: str
    files: tuple[str, ...]
    identities: frozenset[Identity]
    newest_s: float
    """Since when none of them has changed."""

    @classmethod
    def of(cls, group: Group, files: Mapping[str, IncomingFile]) -> _Members:
        """Return the files of a group of frames that are labelled with their paths."""
        members = [files[frame.label] for frame in group.frames]
        return cls(
            kind=group.key.frame_type,
            description=describe(group),
            files=tuple(file.path for file in members),
            identities=frozenset(file.identity for file in members),
            newest_s=max(file.since_s for file in members),
        )
