"""Short displays of the public classes and results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import ostcal
from ostcal import CalibrationApplier, MasterFrameCreator, Status
from ostcal.status import Level
from support import night as n


def test_results_are_shown_in_a_line(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    creator = MasterFrameCreator(night.config())
    assert repr(creator) == "<MasterFrameCreator: nothing made yet>"
    status = creator.create_all_master_frames()
    assert repr(status) == f"<Status success: {status.message}>"
    assert repr(creator) == f"<MasterFrameCreator: {status.message}>"
    (light,) = n.write_frames(tmp_path / "lights", n.dark_frames(5.0, 1) + 500, "Light Frame", 5.0)
    matched = CalibrationApplier(night.config()).find_masters(light)
    assert matched.dark is not None
    assert matched.flat is not None
    assert repr(matched) == (f"<MatchedMasters dark: {matched.dark.description}; flat: {matched.flat.record.name}>")


def test_a_status_is_shown_with_its_files_and_warnings() -> None:
    status = Status(
        level=Level.WARNING,
        message="25 frames <calibrated>",
        data={"calibrated": [f"light_{i}.fits" for i in range(25)]},
        details={"warnings": ["a & b"], "errors": []},
    )
    page = status._repr_html_()
    for text in ("<b>warning</b>: 25 frames &lt;calibrated&gt;", "a &amp; b", "light_19.fits", "and 5 more"):
        assert text in page
    assert "light_20.fits" not in page


def test_combined_planes_are_shown_without_their_pixels() -> None:
    planes = ostcal.combine([np.zeros((20, 30), np.uint16)] * 3, "median", full_output=True)
    assert repr(planes) == "<CombinedPlanes (master, std, n_used) of 30 x 20 pixels>"
    master, std, n_used = planes
    assert (master.shape, std.dtype, n_used.dtype) == ((20, 30), np.float32, np.uint16)
