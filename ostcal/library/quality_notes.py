"""What the quality control of a master warned of and what was changed since, to be said where the master is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.integrity import changed_samples
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.limits import MasterLimits
from ostcal.places.durable import storage_errors

MOST_LINES = 3
"""Findings of a master that are repeated; its report has all."""

_NOT_REPEATED = ("frames", "left out")
"""Checks that say how a master was made, not what is wrong with it."""


def repeated_warnings(master: LibraryMaster) -> list[str]:
    """Return a line for each of the worst findings about a master: those that its quality control warned of.

    A file is read and compared with its checksums; rows of a stored master are compared when they are read.

    Raises
    ------
    OstcalError
        If its attributes or the file cannot be read.
    """
    changed = None
    if not isinstance(master.plane, StorePlane):
        path = master.plane.fits.path
        with storage_errors(f"{path}: the master cannot be read"):
            changed = changed_samples(path)
    return [*([changed] if changed else []), *_findings_said_again(master)]


def _findings_said_again(master: LibraryMaster) -> list[str]:
    name, verdict = master.record.name, master.record.verdict
    if verdict not in (str(Outcome.WARN), str(Outcome.FAIL)):
        return []
    if not isinstance(master.plane, StorePlane):
        if verdict == "fail":
            return [f"{name}: its quality control failed (QCVERD)"]
        # the header does not say of what, which is only that they are few where they are
        is_few = (master.record.n_frames or 0) < MasterLimits().frames
        return [] if is_few else [f"{name}: its quality control warned of it (QCVERD); its report says why"]
    attributes = MasterStore(master.plane.store).attributes(name)
    findings = [one for one in findings_of(attributes) if one.check not in _NOT_REPEATED]
    findings = [one for one in findings if one.outcome is not Outcome.PASS]
    findings.sort(key=lambda one: one.outcome is not Outcome.FAIL)  # failures first
    lines = []
    for finding in findings[:MOST_LINES]:
        failed = "failed: " if finding.outcome is Outcome.FAIL else ""
        of_frame = _label(attributes, finding)
        lines.append(f"{name} was made with a warning: {failed}{finding.check}: {of_frame}{finding.text}")
    if len(findings) > MOST_LINES:
        n_more = len(findings) - MOST_LINES
        s = "s" if n_more > 1 else ""
        lines.append(f"{name}: {n_more} more warning{s}; its report has all (ostcal report)")
    return lines


def why_failed(master: LibraryMaster) -> str:
    """Return what the quality control of a master says of its failure; "" where it is not known.

    Raises
    ------
    StorageError
        If its attributes cannot be read.
    """
    if not isinstance(master.plane, StorePlane):
        return ""
    attributes = MasterStore(master.plane.store).attributes(master.record.name)
    failed = (one for one in findings_of(attributes) if one.outcome is Outcome.FAIL)
    return next((f"{one.check}: {_label(attributes, one)}{one.text}" for one in failed), "")


def findings_of(attributes: Mapping[str, Any]) -> list[Finding]:
    """Return what the checks of a stored master found; what another version wrote differently is left out."""
    quality = attributes.get("quality")
    stored = quality.get("findings") if isinstance(quality, Mapping) else None
    findings = []
    for values in stored if isinstance(stored, list) else []:
        try:
            findings.append(Finding.from_dict(values))
        except (KeyError, TypeError, ValueError):  # of another version
            continue
    return findings


def _label(attributes: Mapping[str, Any], finding: Finding) -> str:
    """Name the frame that a finding is about."""
    inputs = attributes.get("inputs")
    if finding.frame is None or not isinstance(inputs, list) or not 0 <= finding.frame < len(inputs):
        return ""
    return f"{inputs[finding.frame]}: "
