"""The master that a new one is compared with: of the session before, in the time the frames were taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.inputs.optics import optics_differ
from ostcal.library.find import LibraryMaster
from ostcal.library.history import subject_of
from ostcal.library.in_time import Merit
from ostcal.measure.findings import Outcome


def previous_master(key: GroupKey, observed: Observed | None, library: Sequence[LibraryMaster]) -> LibraryMaster | None:
    """Return the master before a new one; ``None`` if there is none.

    It has the same settings and light path, and did not fail. Of those it is the one whose frames were taken last
    before those of the new one, whenever it was built; of its session the one of the nearest exposure, and of these the
    one built last. Where nothing was taken before, an earlier master of the same frames is taken. Those of later times
    are none before it. If the new master does not say when its frames were taken, all count, the one built last first.
    """
    same = [
        master
        for master in library
        if master.record.verdict != str(Outcome.FAIL)
        and subject_of(master.key) == subject_of(key)
        and not optics_differ(master.key.optics, key.optics)
    ]
    if observed is not None:
        new = Merit.of_key(key, name="", observed=observed, made_at=None, verdict=None, noise=None)
        of_frames = [master for master in same if new.has_frames_of(master.record.merit)]
        same = _session_before(observed, [master for master in same if master not in of_frames]) or of_frames

    def preference(master: LibraryMaster) -> tuple[float, float]:
        made_at = master.record.made_at
        apart_s = abs(master.key.exposure_time_s - key.exposure_time_s)
        return apart_s, -made_at.timestamp() if made_at is not None else math.inf

    return min(same, key=preference, default=None)


def _session_before(observed: Observed, masters: Sequence[LibraryMaster]) -> list[LibraryMaster]:
    """Return the masters of the last session before a time; those whose time is not known are of none."""
    earlier = [
        (when, master)
        for master in masters
        if (when := master.record.merit.when) is not None and when < observed.middle
    ]
    if not earlier:
        return []
    _, latest = max(earlier, key=lambda pair: pair[0])
    return [master for _, master in earlier if master.record.merit.is_of_session(latest.record.merit)]
