"""`latest/`: one name for the newest master of each setting, whatever else is there, and never a second copy of it."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from astropy.io import fits

from ostcal import MasterFrameCreator
from ostcal.fits.search import search_fits
from ostcal.frames import CameraSettings, FrameType, Optics
from ostcal.inputs.group_names import complete_name, master_names
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import find_masters
from ostcal.library.latest import refresh_latest
from ostcal.library.master_names import untimed
from ostcal.places.night_folders import folders_of
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.paths import files_below, read_whole
from support import night as n
from support.mosaics import Image, write_mosaics
from support.night import Night
from support.object_samples import fresh_bucket
from support.object_server import credentials

DARK = "master_dark_5.000s_gain100_offset30_-10C_bin1x1_28x20_Synthetic"
FLAT = "master_flat_gain100_offset30_-10C_bin1x1_28x20_Synthetic"


def index_of(masters: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((masters / "latest" / "index.json").read_text(encoding="utf-8"))
    assert (document["format"], document["format_version"]) == ("ostcal-latest", 1)
    return document


def by_name(masters: Path) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in index_of(masters)["masters"]}


def links_of(masters: Path) -> dict[str, str]:
    """Return the links and where they lead; all lead somewhere."""
    links = {path.name: os.readlink(path) for path in (masters / "latest").iterdir() if path.is_symlink()}
    assert all((masters / "latest" / name).exists() for name in links)
    return links


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    paths = (folder, *folder.iterdir())
    return {path.name: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths}


@pytest.fixture
def dark_night(tmp_path: Path) -> Night:
    night = Night(tmp_path / "night")
    n.write_darks(night, 5.0)
    assert not night.run().is_error
    return night


def made_again(night: Night) -> str:
    """Make the masters again; return the name of the dark that is made."""
    status = night.run(only_changed=False)
    assert not status.is_error, status.message
    return n.one_file(status, "dark").stem


# ---- names ----


def key_of(kind: FrameType = FrameType.DARK, **others: Any) -> GroupKey:
    settings = CameraSettings(camera="ZWO ASI2600MM", gain=100.0, offset=50.0)
    values = {"settings": settings, "width": 6248, "height": 4176, "exposure_time_s": 60.0, "temperature_c": -9.96}
    return GroupKey(frame_type=kind, **(values | others))


def test_a_name_says_all_that_is_recorded() -> None:
    assert complete_name(key_of()) == "master_dark_60.000s_gain100_offset50_-10C_bin1x1_6248x4176_ZWO-ASI2600MM"
    full = CameraSettings(
        camera="Cam", camera_id="7", gain=2.5, iso=800.0, offset=3.0, binning=(2, 1), readout_mode="Low Noise",
        coadds=4, extension="im1", subframe_origin=(100, 50), row_order="BOTTOM-UP", flip="Mirror",
    )  # fmt: skip
    optics = Optics(telescope="RC8", focal_length_mm=1624.3, rotator_deg=90.2)
    flat = key_of(FrameType.FLAT, settings=full, optics=optics, filter_name="Ha", bayer_pattern="RGGB")
    assert complete_name(flat) == (
        "master_flat_Ha_gain2.5_iso800_offset3_-10C_bin2x1_Low-Noise_coadds4_RGGB_im1_6248x4176_from100-50_Mirror_"
        "bottom-up_RC8_1624mm_rot90_Cam_7"
    )


def test_what_does_not_tell_masters_apart_does_not_change_a_name() -> None:
    name = complete_name(key_of())
    assert complete_name(key_of(temperature_c=-10.04, exposure_time_s=60.0009)) == name
    defaults = replace(key_of().settings, coadds=1, row_order="TOP-DOWN", flip="none", subframe_origin=(0, 0))
    assert complete_name(key_of(settings=defaults, states_binning=False)) == name
    flats = {complete_name(key_of(FrameType.FLAT, exposure_time_s=s, filter_name="R")) for s in (1.69, 1.702)}
    assert len(flats) == 1


def test_dated_names_can_be_complete_too(tmp_path: Path) -> None:
    alone, among = Night(tmp_path / "alone"), Night(tmp_path / "among")
    n.write_darks(alone, 5.0)
    n.write_flats(among, 2.0, FILTER="L")
    n.write_darks(among, 2.0)
    n.write_darks(among, 5.0)
    n.write_frames(among.darks / "gain0", n.dark_frames(5.0, seed=9), "Dark Frame", 5.0, GAIN=0)
    names = [untimed(Path(path).stem) for path in alone.run(names="complete").data["dark"]]
    status = among.run(names="complete")
    assert names == [DARK]
    assert sorted(untimed(Path(path).stem) for path in status.data["dark"]) == sorted(
        [DARK, DARK.replace("5.000s", "2.000s"), DARK.replace("gain100", "gain0")]
    )
    assert untimed(n.one_file(status, "flat").stem) == (
        "master_flat_2.000s_L_gain100_offset30_-10C_bin1x1_28x20_Synthetic_night20261121"
    )
    assert f"{FLAT.replace('master_flat', 'master_flat_L')}.fits" in links_of(among.masters)
    nights = [key_of(night=date(2026, 11, day), session_start=None) for day in (21, 22)]
    made = master_names(nights, n.START, "complete")
    assert [name.removeprefix(complete_name(key_of())) for name in made] == [
        "_night20261121_20261121_180000",
        "_night20261122_20261121_180000",
    ]


def test_letters_that_file_names_cannot_have_still_tell_names_apart() -> None:
    filters = ("H", "H\u03b1", "H\u03b2", "Rød", "Rðd", "R", "r", None)
    names = {complete_name(key_of(FrameType.FLAT, filter_name=name)) for name in filters}
    assert len(names) == len(filters)
    assert all(name.isascii() for name in names)
    long = complete_name(key_of(settings=replace(key_of().settings, camera="x" * 80)))
    assert long != complete_name(key_of(settings=replace(key_of().settings, camera="x" * 81)))


# ---- the folder ----


def test_each_newest_master_and_the_report_have_a_name(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    hot = n.dark_frames(10.0, seed=12)
    hot[:, 5, 7] += 9000
    n.write_darks(night, 10.0, hot)
    outcome = n.run_command(night)
    assert outcome.exit_code == 0, outcome.text
    masters, links = by_name(night.masters), links_of(night.masters)
    assert {one["kind"]: sum(m["kind"] == one["kind"] for m in masters.values()) for one in masters.values()} == {
        "bias": 1,
        "dark": 4,  # the bias frames are a dark of their exposure too
        "flat": 1,
    }
    for name, one in masters.items():
        link = night.masters / "latest" / f"{name}.fits"
        assert links[link.name] == one["path"] == f"../{one['master']}.fits"
        header = fits.getheader(link)
        assert (header["CALID"], header["QCVERD"].lower()) == (one["calibration_id"], one["verdict"])
        assert one["checksum"] == f"datasum:{header['DATASUM']}"
    dark = masters[DARK]
    assert (dark["exposure_s"], dark["filter"]) == (5.0, None)
    assert {name: dark["settings"][name] for name in ("camera", "gain", "binning", "temperature_c", "width")} == {
        "camera": "Synthetic", "gain": 100.0, "binning": [1, 1], "temperature_c": -10.0, "width": 28,
    }  # fmt: skip
    assert dark["observed"]["first"].startswith("2026-11-21T18:05:00")
    report = index_of(night.masters)["report"]
    (page,) = night.masters.glob("report_*.html")
    assert report["html"] == links["report.html"] == f"../{page.name}"
    assert report["json"] == links["report.json"] == f"../{page.stem}.json"
    assert links["defects"] == "../defects"
    text = (night.masters / "latest" / "report.html").read_text(encoding="utf-8")
    refers_to = {unquote(name) for name in re.findall(r'href="([^"#]+)"', text)}
    assert refers_to >= {f"{page.stem}.json"}
    assert any(name.startswith("defects/") for name in refers_to)
    assert all((night.masters / "latest" / name).exists() for name in refers_to)


def test_names_do_not_change_with_what_else_is_in_a_run(dark_night: Night) -> None:
    before = set(links_of(dark_night.masters))
    assert before == {f"{DARK}.fits"}
    n.write_darks(dark_night, 2.0)
    n.write_frames(dark_night.darks / "gain0", n.dark_frames(5.0, seed=9), "Dark Frame", 5.0, GAIN=0)
    n.write_frames(
        dark_night.darks / "bin2", n.dark_frames(5.0, seed=8)[:, ::2, ::2], "Dark Frame", 5.0, XBINNING=2, YBINNING=2
    )
    status = dark_night.run()
    assert not status.is_error
    assert any("bin2x2" in Path(path).name for path in status.data["dark"])  # the dated names do
    after = links_of(dark_night.masters)
    assert set(after) == before | {
        DARK.replace("5.000s", "2.000s") + ".fits",
        DARK.replace("gain100", "gain0") + ".fits",
        DARK.replace("bin1x1_28x20", "bin2x2_14x10") + ".fits",
    }


def test_an_older_night_that_is_made_today_does_not_take_the_name(dark_night: Night) -> None:
    tonight = links_of(dark_night.masters)
    old = Night(dark_night.root / "old")
    n.write_frames(old.darks, n.dark_frames(5.0, seed=7), "Dark Frame", 5.0, start=n.START - timedelta(days=30))
    config = dark_night.config() | {"input": {"dirs": [str(old.darks)]}}
    status = MasterFrameCreator(config).create_all_master_frames()
    assert len(status.data["dark"]) == 1
    assert len(find_masters(str(dark_night.masters))) == 2
    assert links_of(dark_night.masters) == tonight
    again = made_again(dark_night)  # of the same frames the one made last
    assert links_of(dark_night.masters) == {f"{DARK}.fits": f"../{again}.fits"}


def test_a_master_that_failed_does_not_take_the_name_and_is_named(dark_night: Night) -> None:
    before = links_of(dark_night.masters)
    again = made_again(dark_night)
    document = dark_night.masters / "masters.zarr" / again / "zarr.json"
    stored = json.loads(document.read_text(encoding="utf-8"))
    stored["attributes"]["verdict"] = "fail"
    del stored["attributes"]["checksum"]
    document.write_text(json.dumps(stored), encoding="utf-8")
    refresh_latest(str(dark_night.masters))
    assert links_of(dark_night.masters) == before
    failed = index_of(dark_night.masters)["failed"]
    assert failed == [{"name": DARK, "master": again, "path": f"../{again}.fits"}]


def test_nothing_is_written_where_nothing_is_new(dark_night: Night) -> None:
    before = state_of(dark_night.masters / "latest")
    assert dark_night.run().details["counts"]["dark"] == 0
    assert state_of(dark_night.masters / "latest") == before


@pytest.mark.parametrize("what", ["file", "both copies", "link", "index"])
def test_the_next_run_mends_what_was_deleted_or_killed_in_between(dark_night: Night, what: str) -> None:
    latest, first = dark_night.masters / "latest", links_of(dark_night.masters)
    again = made_again(dark_night)
    if what in ("file", "both copies"):  # as prune leaves it where it is killed
        (dark_night.masters / f"{again}.fits").unlink()
    if what == "both copies":
        shutil.rmtree(dark_night.masters / "masters.zarr" / again)
    if what == "link":
        (latest / f"{DARK}.fits").unlink()
        (latest / ".0123.partial").symlink_to("../nothing.fits")
        (latest / "master_dark_gone.fits").symlink_to("../gone.fits")
    if what == "index":
        (latest / "index.json").write_text('{"format": "ostcal-latest", ', encoding="utf-8")
    refresh_latest(str(dark_night.masters))
    kept = {"file": {}, "both copies": first}.get(what, {f"{DARK}.fits": f"../{again}.fits"})
    assert links_of(dark_night.masters) == kept
    assert by_name(dark_night.masters)[DARK]["path"] == {
        "file": f"../masters.zarr/{again}",
        "both copies": first.get(f"{DARK}.fits"),
    }.get(what, f"../{again}.fits")
    assert {path.name for path in latest.iterdir()} == {"index.json", *kept}


def test_prune_leaves_no_link_to_what_is_gone(dark_night: Night) -> None:
    names = [made_again(dark_night) for _ in range(2)]
    link = dark_night.masters / "latest" / f"{DARK}.fits"
    link.unlink()
    link.symlink_to(f"../{names[0]}.fits")  # an older one has the name
    outcome = n.ostcal("prune", "--config", n.write_config(dark_night), "--keep", "1", "--apply")
    assert outcome.exit_code == 0, outcome.text
    assert not (dark_night.masters / f"{names[0]}.fits").exists()
    assert links_of(dark_night.masters) == {link.name: f"../{names[1]}.fits"}


def test_where_no_links_can_be_made_the_index_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(1314, "A required privilege is not held by the client")  # Windows

    monkeypatch.setattr(Path, "symlink_to", refuse)
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    status = night.run()
    assert not status.is_error
    assert [path.name for path in (night.masters / "latest").iterdir()] == ["index.json"]
    assert (night.masters / "latest" / by_name(night.masters)[DARK]["path"]).resolve() == n.one_file(status, "dark")


def test_a_folder_and_files_of_the_user_stay(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    mine = night.masters / "latest" / "index.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{}", encoding="utf-8")
    outcome = n.run_command(night)
    assert outcome.exit_code == 0, outcome.text
    said = " ".join(outcome.text.split())
    assert said.count("is not of this program, so no names that stay are written; rename it") == 1
    assert [path.name for path in mine.parent.iterdir()] == ["index.json"]
    mine.unlink()
    (mine.parent / f"{DARK}.fits").write_bytes(b"mine")
    (mine.parent / "master_notes.txt").write_bytes(b"mine too")
    assert "is no link and was left as it is" in " ".join(n.run_command(night).text.split())
    assert (mine.parent / f"{DARK}.fits").read_bytes() == b"mine"
    assert (mine.parent / "master_notes.txt").exists()


# ---- readers ----


def test_no_reader_takes_the_links_for_second_copies(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    n.write_frames(night.root / "lights", n.dark_frames(5.0, 2, seed=60), "Light Frame", 5.0)
    config = n.write_config(night)
    assert n.run_command(night).exit_code == 0
    latest = night.masters / "latest"
    n_links = len(list(latest.glob("*.fits")))
    assert n_links == 5
    assert len(find_masters(str(night.masters))) == 5
    assert len(list(night.masters.glob("*.fits"))) == n_links
    assert not [path for path in search_fits([night.masters]).files if "latest" in path]
    assert not [path for path in search_fits([night.masters, latest]).files if "latest" in path]
    assert len(search_fits([latest]).files) == n_links  # that folder alone is a folder of masters
    assert len(find_masters(str(latest))) == 5
    n_frames = len(list(night.darks.rglob("*.fits"))) + len(list(night.flats.rglob("*.fits")))
    verified = json.loads(n.ostcal("verify", night.root, "--json").stdout)
    assert "latest" not in json.dumps(verified)
    library = json.loads(n.ostcal("library", "--config", config, "--json").stdout)
    assert len(library["masters"]) == 5
    coverage = n.ostcal("coverage", night.root / "lights", "--config", config, "--json")
    assert "latest" not in coverage.stdout
    outcome = n.ostcal("masters", night.root, "--out", night.root / "others", "--no-confirm", "--json")
    assert outcome.exit_code == 0, outcome.text
    made = json.loads(outcome.stdout)["masters"]
    assert sum(one["frames"] for one in made) == n_frames
    assert "latest" not in outcome.text.replace("others/latest", "")


@pytest.mark.parametrize("word", ["{night}", "{camera}"])
def test_with_a_folder_of_each_night_or_camera_it_is_beside_them(tmp_path: Path, word: str) -> None:
    night = Night(tmp_path)
    pattern = str(night.root / "masters" / word)
    for day in (0, 1):
        folder, start = night.darks / f"{day}", n.START + timedelta(days=day)
        frames = n.write_frames(folder, n.dark_frames(5.0, seed=day), "Dark Frame", 5.0, start=start)
        config = night.config(output_dir=pattern) | {"input": {"dirs": [str(path) for path in frames]}}
        status = MasterFrameCreator(config).create_all_master_frames()
        assert not status.is_error, status.message
    newest = n.one_file(status, "dark")
    assert links_of(night.root / "masters") == {f"{DARK}.fits": f"../{newest.relative_to(night.root / 'masters')}"}
    assert len(find_masters(pattern)) == 2
    assert {Path(folder).name for folder in folders_of(pattern)} == (
        {"2026-11-21", "2026-11-22"} if word == "{night}" else {"Synthetic"}
    )


def test_an_object_store_has_the_index_alone(tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    with credentials():
        masters = f"{fresh_bucket(s3_endpoint)}/masters"
        config = night.config(output_dir=masters) | {"storage": {"endpoint": s3_endpoint}}
        status = MasterFrameCreator(config).create_all_master_frames()
        (dark,) = status.data["dark"]
        assert list(files_below(f"{masters}/latest")) == ["index.json"]
        (one,) = json.loads(read_whole(f"{masters}/latest/index.json"))["masters"]
        assert (one["name"], one["path"]) == (DARK, f"../{Path(dark).name}")
        assert one["checksum"].startswith("datasum:")
        assert MasterFrameCreator(config).create_all_master_frames().details["unchanged"] == [one["master"]]
    use_options(ObjectOptions())


# ---- formats ----


def test_a_file_of_several_images_has_one_name(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_mosaics(night.darks, "Dark", 5.0, [Image(name="im1", level=1000), Image(name="im2", level=1100)])
    assert not night.run().is_error
    (one,) = index_of(night.masters)["masters"]
    assert list(links_of(night.masters).values()) == [one["path"]]
    assert [image["extension"] for image in one["images"]] == ["im1", "im2"]
    assert len({image["checksum"] for image in one["images"]}) == 2
    assert "im1" not in one["name"]


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"format": "both"}, {f"{DARK}.fits", f"{DARK}.xisf"}),
        ({"format": "xisf"}, {f"{DARK}.xisf"}),
        ({"flavour": "pixinsight"}, {DARK.replace("master_dark", "MasterDark") + ".fits"}),
        ({"save_individual_masters": False}, set()),
    ],
    ids=("both", "xisf", "pixinsight", "store"),
)
def test_every_form_of_masters(tmp_path: Path, keys: dict[str, Any], names: set[str]) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    assert not night.run(**keys).is_error
    assert set(links_of(night.masters)) == names
    (one,) = index_of(night.masters)["masters"]
    assert len(one["files"]) == max(1, len(names))
    assert (night.masters / "latest" / one["path"]).exists()
