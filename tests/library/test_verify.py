"""`ostcal verify`: nothing is found where all is well, and every kind of damage is named, without writing anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from astropy.io import fits
from numcodecs import blosc
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.frames import FrameType
from ostcal.inputs.already_subtracted import marked_dark_subtracted
from ostcal.inputs.copy_frames import export_series
from ostcal.inputs.gather import gather_inputs
from ostcal.library.verification import without_damaged
from ostcal.series.reader import open_series
from ostcal.series.record import Decision
from ostcal.series.series_writer import create_series, decide_frames, open_series_for_writing
from ostcal.series.stack import ZarrStack
from support.fits_samples import write_frame
from support.night import Night, Outcome, ostcal, whole_night
from support.series_samples import change_json, change_old, record_of, samples

SHAPE = (40, 28)
N_FRAMES = 4


def make_series(location: Path, dtype: str = "uint16", *, compressor: str = "auto", version: int = 2) -> Path:
    """Make a series of four darks; version 1 of the format has no checksums in its chunks."""
    location.parent.mkdir(parents=True, exist_ok=True)
    writer = create_series(
        location,
        n_frames=N_FRAMES,
        height=SHAPE[0],
        width=SHAPE[1],
        dtype=dtype,
        frame_type=FrameType.DARK,
        compressor=compressor,
        attributes={"camera": "Demo", "gain": 100.0, "binning": [1, 1]},
    )
    if version == 1:
        change_old(location / "zarr.json", lambda m: m["attributes"].update(format_version=1))
        change_json(location / "frames" / "zarr.json", drop_checksums)
        writer = open_series_for_writing(location)
    for index in range(N_FRAMES):
        frame = samples(SHAPE, dtype, seed=index)
        writer.write_frame(index, frame, record_of(index, frame))
    return location


def drop_checksums(metadata: dict[str, Any]) -> None:
    codecs = metadata["codecs"][0]["configuration"]["codecs"]
    assert codecs.pop() == {"name": "crc32c"}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return make_series(tmp_path / "darks" / "exp_5.000s.zarr")


@pytest.fixture(scope="module")
def made_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night with masters, in the store and as FITS with all extensions; tests work on copies."""
    night = whole_night(tmp_path_factory.mktemp("night"))
    assert night.run(extensions=True).is_success
    return night


@pytest.fixture
def masters(made_night: Night, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_night.masters, tmp_path / "masters"))


def verify(*places: Path, code: int) -> Outcome:
    """Run the command, and see that it changes nothing."""
    before = [state_of(place) for place in places]
    result = ostcal("verify", *places)
    assert [state_of(place) for place in places] == before
    assert result.exit_code == code, result.text
    return result


def state_of(place: Path) -> dict[str, tuple[int, int]]:
    paths = [place, *place.rglob("*")] if place.is_dir() else [place]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists()}


def findings(result: Outcome) -> list[str]:
    return result.stdout.split("Verified")[0].splitlines()


def one_finding(*places: Path) -> str:
    (line,) = findings(verify(*places, code=1))
    return line


def flip(path: Path, position: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    path.write_bytes(data)


# ---- where all is well ----


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("compressor", ["auto", "zstd", "none"])
def test_nothing_is_found_in_a_whole_series(tmp_path: Path, dtype: str, compressor: str) -> None:
    location = make_series(tmp_path / "a.zarr", dtype, compressor=compressor)
    result = verify(location, code=0)
    assert findings(result) == []
    assert "no problems found" in result.stderr


def test_nothing_is_found_in_a_night_and_the_table_counts(made_night: Night) -> None:
    result = verify(made_night.masters, code=0)
    assert findings(result) == []
    lines = result.stdout.splitlines()
    rows = [(row.split(), os.path.basename(path)) for row, path in pairwise(lines) if path.startswith("    ")]
    counted = {(kind, name): count for (kind, count, *_), name in rows}
    store = made_night.masters / "masters.zarr"
    assert counted["masters", "masters.zarr"] == str(sum(path.is_dir() for path in store.iterdir()))
    assert sum(kind == "FITS" for kind, _ in counted) == len(list(made_night.masters.glob("*.fits"))) >= 4


def test_raw_frames_without_checksums_are_said_to_have_none(made_night: Night) -> None:
    result = verify(made_night.darks, code=0)
    assert result.stdout.count("no checksums to compare with") == len(list(made_night.darks.rglob("*.fits")))


def test_excluded_frames_are_counted(series: Path) -> None:
    decide_frames(series, [1], Decision(excluded=True, why="clouds", who="a", when=datetime.now(UTC)))
    assert "1 excluded" in verify(series, code=0).stdout


# ---- series ----


@pytest.mark.parametrize("compressor", ["auto", "zstd", "none"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.995])
def test_one_flipped_bit_of_a_frame_is_found(tmp_path: Path, compressor: str, share: float) -> None:
    location = make_series(tmp_path / "a.zarr", compressor=compressor)
    shard = location / "frames" / "c" / "2" / "0" / "0"
    flip(shard, int(share * shard.stat().st_size))
    assert f"{location}: frame 2 cannot be used" in one_finding(location)


def damage_lost_shard(series: Path) -> str:
    (series / "frames" / "c" / "2" / "0" / "0").unlink()
    return "frame 2 cannot be used: its shard is missing"


def damage_swapped_frames(series: Path) -> str:
    shutil.copy(series / "frames" / "c" / "1" / "0" / "0", series / "frames" / "c" / "2" / "0" / "0")
    return "frame 2 cannot be used: its samples are not those that were written (checksum)"


def damage_record(series: Path) -> str:
    (series / "ledger" / "000002.json").write_bytes(b"{")
    return "000002.json: this frame is left out, its record cannot be used"


def damage_level(series: Path) -> str:
    change_old(series / "ledger" / "000002.json", lambda r: r["pixels"]["statistics"].update(median=1.0))
    return "the record of frame 2 says median 1.0, its samples 3"


def damage_fingerprint(series: Path) -> str:
    change_old(series / "ledger" / "000002.json", lambda r: r["pixels"].update(fingerprint="0" * 40))
    return "the record of frame 2 has a fingerprint that is not of its samples"


def damage_gain(series: Path) -> str:
    change_old(series / "ledger" / "000002.json", lambda r: r["metadata"]["settings"].update(gain=200.0))
    return "the record of frame 2 says gain 200.0, the series 100.0"


def damage_kind(series: Path) -> str:
    change_old(series / "ledger" / "000002.json", lambda r: r["metadata"].update(frame_type="bias"))
    return "the record of frame 2 says frame_type bias, the series dark"


def damage_sealed_record(series: Path) -> str:
    change_json(series / "ledger" / "000002.json", lambda r: r["pixels"]["statistics"].update(saturated=7))
    return "000002.json: this frame is left out, its record cannot be used: it is not what was written"


def damage_attributes(series: Path) -> str:
    change_json(series / "zarr.json", lambda m: m["attributes"].update(software="ostcal 0"))
    return "zarr.json: it is not what was written: its checksum is"


def damage_settings(series: Path) -> str:
    change_old(series / "zarr.json", lambda m: m["attributes"]["settings"].update(gain=200.0))
    return "zarr.json: says gain 200.0, its records 100.0"


def damage_format(series: Path) -> str:
    change_json(series / "zarr.json", lambda m: m["attributes"].update(format="ostcal-seriet"))
    return "its format is 'ostcal-seriet'"


def damage_byte_order(series: Path) -> str:
    def reverse(metadata: dict[str, Any]) -> None:
        metadata["codecs"][0]["configuration"]["codecs"][0]["configuration"]["endian"] = "big"

    change_json(series / "frames" / "zarr.json", reverse)
    return "frame 0 cannot be used: its samples are not those that were written"


def damage_size(series: Path) -> str:
    change_old(series / "ledger" / "000002.json", lambda r: r["metadata"].update(width=29))
    return "records and frames are of different series"


def damage_group(series: Path) -> str:
    (series / "zarr.json").write_bytes(b"{}")
    return "zarr.json is damaged"


def damage_dtype(series: Path) -> str:
    change_json(series / "frames" / "zarr.json", lambda m: m.update(data_type="int32"))
    return "frame 0 cannot be used"


def damage_partial(series: Path) -> str:
    (series / "ledger" / "000004.json.0123.partial").touch()
    return "000004.json.0123.partial: half-written"


def damage_uncommitted(series: Path) -> str:
    (series / "frames" / "c" / "9" / "0").mkdir(parents=True)
    (series / "frames" / "c" / "9" / "0" / "0").write_bytes(b"x")
    return "samples without a record, of a frame that was never committed"


def damage_foreign(series: Path) -> str:
    (series / "notes.txt").write_text("clouds")
    return "notes.txt: it belongs to nothing here"


def damage_orphan(series: Path) -> str:
    (series / "ledger" / "000009.excluded.json").write_text("{}")
    return "000009.excluded.json: it is about a frame that is not there"


def damage_decision(series: Path) -> str:
    (series / "ledger" / "000001.excluded.json").write_text("{}")
    return "it cannot be read why it was excluded"


DAMAGE = [function for name, function in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda function: function.__name__)
def test_damage_of_a_series_is_named(series: Path, damage: Callable[[Path], str]) -> None:
    expected = damage(series)
    lines = findings(verify(series, code=1))
    assert any(expected in line for line in lines), lines
    assert all(line.startswith(str(series)) for line in lines)


def test_several_findings_are_all_named_and_counted(series: Path) -> None:
    damage_lost_shard(series)
    damage_foreign(series)
    flip(series / "frames" / "c" / "0" / "0" / "0", 100)
    result = verify(series, code=1)
    assert len(findings(result)) == 3
    assert "3 findings" in result.stderr


# ---- while frames are combined ----


def others(bad: int) -> NDArray[np.float64]:
    return np.mean([samples(SHAPE, seed=index) for index in range(N_FRAMES) if index != bad], axis=0)


@pytest.mark.parametrize("compressor", ["auto", "zstd", "none"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.97])
@pytest.mark.parametrize("quality_control", [True, False])
def test_a_damaged_frame_is_named_and_left_out_of_its_master(
    tmp_path: Path, compressor: str, share: float, quality_control: bool, caplog: pytest.LogCaptureFixture
) -> None:
    night = Night(tmp_path)
    location = make_series(night.darks / "exp_5.000s.zarr", compressor=compressor)
    shard = location / "frames" / "c" / "2" / "0" / "0"
    flip(shard, int(share * shard.stat().st_size))
    status = night.run_darks(rejection_method="none", quality_control=quality_control)
    (path,) = status.data["dark"]
    image = fits.getdata(path)
    np.testing.assert_allclose(image, others(2), rtol=1e-6)
    assert any(f"{location}: frame 2 cannot be used" in message for message in caplog.messages)
    verify(night.masters, code=0)


def read_all(location: Path, *, verify: bool) -> NDArray[Any]:
    stack = ZarrStack(str(location), tuple(range(N_FRAMES)), verify)
    block = np.empty(stack.shape, stack.encoding.dtype)
    stack.read_rows(0, SHAPE[0], block)
    return block


def test_every_bit_of_a_chunk_counts(tmp_path: Path) -> None:
    """Blosc alone misses changes inside its compressed blocks; no chunk checksum may."""
    location = make_series(tmp_path / "a.zarr")
    shard = location / "frames" / "c" / "1" / "0" / "0"
    whole = shard.read_bytes()
    rng = np.random.default_rng(8)
    for position in rng.integers(0, len(whole), 200):
        flip(shard, int(position), 1 << int(rng.integers(8)))
        with pytest.raises(FrameError, match="frame 1 cannot be used") as raised:
            read_all(location, verify=True)
        assert raised.value.place == f"{location}#1"
        shard.write_bytes(whole)
    assert np.array_equal(read_all(location, verify=True), read_all(location, verify=False))


def test_a_strip_that_was_not_read_does_not_spoil_the_others(tmp_path: Path) -> None:
    location = make_series(tmp_path / "a.zarr", compressor="none")
    flip(location / "frames" / "c" / "1" / "0" / "0", 33 * 2 * SHAPE[1])
    stack = ZarrStack(str(location), (0, 1))
    block = np.empty((2, 32, SHAPE[1]), "uint16")
    stack.read_rows(0, 32, block)
    with pytest.raises(FrameError, match="rows 32 to 39 are not those that were written"):
        stack.read_rows(32, 40, np.empty((2, 8, SHAPE[1]), "uint16"))


def test_without_verifying_samples_come_as_they_are(tmp_path: Path) -> None:
    location = make_series(tmp_path / "a.zarr", compressor="none")
    flip(location / "frames" / "c" / "1" / "0" / "0", 2 * 5)
    block = read_all(location, verify=False)
    assert block[1, 0, 5] == samples(SHAPE, seed=1)[0, 5] ^ 1


@pytest.mark.parametrize("compressor", ["auto", "zstd", "none"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float64"])
def test_series_of_the_first_version_are_read_and_extended(tmp_path: Path, dtype: str, compressor: str) -> None:
    location = make_series(tmp_path / "a.zarr", dtype, compressor=compressor, version=1)
    series = open_series(location)
    assert not series.has_chunk_checksums
    writer = open_series_for_writing(location)
    writer.extend(N_FRAMES + 1)
    more = samples(SHAPE, dtype, seed=N_FRAMES)
    writer.write_frame(N_FRAMES, more, record_of(N_FRAMES, more))
    series = open_series(location)
    for index in range(N_FRAMES + 1):
        assert np.array_equal(series.read_frame(index), samples(SHAPE, dtype, seed=index))
    verify(location, code=0)


def test_frames_of_the_first_version_are_checked_as_a_whole_before(tmp_path: Path) -> None:
    night = Night(tmp_path)
    old = make_series(night.darks / "old.zarr", compressor="none", version=1)
    (night.darks / "new.zarr").parent.mkdir(exist_ok=True)
    flip(old / "frames" / "c" / "1" / "0" / "0", 100)
    read_all(old, verify=True)  # the strips themselves tell nothing
    sources = gather_inputs([str(night.darks)], exclude=str(night.masters)).sources
    left_out: list[str] = []
    kept = without_damaged(sources, left_out, 2)
    assert sorted(source.index for source in kept.values()) == [0, 2, 3]
    (line,) = left_out
    assert line.startswith(f"{old}: frame 1 cannot be used: its samples are not those that were written")
    not_asked = gather_inputs([str(night.darks)], exclude=str(night.masters), verify=False).sources
    assert without_damaged(not_asked, left_out, 2) == not_asked


def test_of_frames_of_this_version_three_rows_are_read_before(tmp_path: Path) -> None:
    night = Night(tmp_path)
    location = make_series(night.darks / "new.zarr", compressor="none")
    flip(location / "frames" / "c" / "1" / "0" / "0", 2 * 33 * SHAPE[1])  # none of them: strips are checked later
    (location / "frames" / "c" / "3" / "0" / "0").write_bytes(b"")
    sources = gather_inputs([str(night.darks)], exclude=str(night.masters)).sources
    left_out: list[str] = []
    assert sorted(source.index for source in without_damaged(sources, left_out, 2).values()) == [0, 1, 2]
    (line,) = left_out
    assert line.startswith(f"{location}: frame 3 cannot be used: its shard is damaged")


def test_other_programs_read_frames_and_see_their_damage(tmp_path: Path) -> None:
    location = make_series(tmp_path / "a.zarr")
    array = zarr.open_array(location / "frames", mode="r")
    assert np.array_equal(array[1], samples(SHAPE, seed=1))
    flip(location / "frames" / "c" / "1" / "0" / "0", 40)
    with pytest.raises(ValueError, match="checksum"):
        array[1]


def test_a_damaged_flat_whose_level_must_be_known_is_left_out(tmp_path: Path) -> None:
    """Flats that do not say whether a dark was subtracted are read before they are combined."""
    location = tmp_path / "flats.zarr"
    writer = create_series(
        location, n_frames=5, height=SHAPE[0], width=SHAPE[1], dtype="float32", frame_type=FrameType.FLAT
    )
    for index in range(5):
        frame = np.full(SHAPE, 100.0, "float32") + samples(SHAPE, "float32", seed=index) / 1000
        record = record_of(index, frame, frame_type=FrameType.FLAT)
        writer.write_frame(index, frame, record)
    (location / "frames" / "c" / "3" / "0" / "0").write_bytes(b"")
    sources = gather_inputs([str(tmp_path)], exclude=str(tmp_path / "masters")).sources
    warnings: list[str] = []
    marked = marked_dark_subtracted(sources, warnings)
    assert len(marked) == 4
    assert "frame 3 cannot be used" in warnings[0]


# ---- masters ----


def master_of(masters: Path, kind: str) -> Path:
    return sorted((masters / "masters.zarr").glob(f"master_{kind}_*"))[0]


def fits_of(masters: Path, kind: str) -> Path:
    return sorted(masters.glob(f"master_{kind}_*.fits"))[0]


@pytest.mark.parametrize("plane", ["master", "n_used", "std"])
def test_a_damaged_or_missing_chunk_of_a_master_is_found(masters: Path, plane: str) -> None:
    name = master_of(masters, "dark")
    chunk = name / plane / "c.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert f"{chunk}: rows of a master are damaged" in one_finding(masters / "masters.zarr")
    chunk.unlink()
    assert f"{chunk}: rows of a master cannot be read" in one_finding(masters / "masters.zarr")


def test_samples_of_the_store_that_changed_are_found_by_the_fits_file(masters: Path) -> None:
    """A chunk that was replaced by another valid one: in older stores only the samples of the FITS master tell."""
    dark, bias = master_of(masters, "dark"), master_of(masters, "bias")
    shutil.copy(bias / "master" / "c.0.0", dark / "master" / "c.0.0")
    assert "they are those of another master or plane" in one_finding(masters / "masters.zarr")
    change_old(dark / "zarr.json", lambda metadata: metadata["attributes"].pop("chunk_checksums"))
    assert verify(masters / "masters.zarr", code=0)
    line = one_finding(masters)
    assert line.startswith(f"{dark}: its samples are not those of {masters / dark.name}.fits")


def test_a_chunk_that_unpacks_to_other_samples_is_found_without_the_fits_file(masters: Path) -> None:
    dark = master_of(masters, "dark")
    for path in masters.glob("*.fits"):
        path.unlink()
    chunk = dark / "master" / "c.0.0"
    data = chunk.read_bytes()
    rows = np.frombuffer(blosc.decompress(data[:-4]), np.float32).copy()
    rows[5] += 100
    chunk.write_bytes(blosc.compress(rows, b"lz4", 5, blosc.BITSHUFFLE) + data[-4:])
    assert one_finding(masters).startswith(f"{chunk}: rows of a master are damaged")


def test_more_samples_used_than_there_are_frames_is_found(masters: Path) -> None:
    dark = master_of(masters, "dark")
    change_old(dark / "zarr.json", lambda m: m["attributes"].update(inputs=["a"]))
    assert "n_used is up to 7, of 1 frames" in one_finding(masters / "masters.zarr")


def test_attributes_of_another_size_are_found(masters: Path) -> None:
    change_old(master_of(masters, "dark") / "zarr.json", lambda m: m["attributes"].update(width=3))
    assert "its attributes say 3 x 20 pixels, its planes 28 x 20" in one_finding(masters / "masters.zarr")


def test_what_killed_runs_left_is_named(masters: Path) -> None:
    (master_of(masters, "dark") / "zarr.json").unlink()
    (masters / "masters.zarr" / "notes.txt").touch()
    (masters / "a.fits.partial").touch()
    (masters / ".unpacked-host-12-ab").mkdir()
    lines = findings(verify(masters, code=1))
    assert len(lines) == 4
    for text in ("an unfinished master", "notes.txt: it belongs to nothing", "a.fits.partial", ".unpacked-host-12-ab"):
        assert any(text in line for line in lines), text


def test_a_store_that_no_other_program_can_open_is_named(masters: Path) -> None:
    (masters / "masters.zarr" / "zarr.json").write_bytes(b"{")
    assert "other programs cannot open the store" in one_finding(masters / "masters.zarr")


# ---- FITS ----


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_every_flipped_bit_of_a_fits_master_is_found(masters: Path, kind: str) -> None:
    path = fits_of(masters, kind)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for position in rng.integers(0, len(whole), 15):
        flip(path, int(position), 1 << int(rng.integers(8)))
        assert findings(verify(path, code=1)) != [], position
        path.write_bytes(whole)
    verify(path, code=0)


def test_which_image_and_what_changed_is_said(masters: Path) -> None:
    path = fits_of(masters, "dark")
    with fits.open(path) as hdus:
        at = {hdu.name or "primary": hdu.fileinfo() for hdu in hdus}
    flip(path, at["STD"]["datLoc"] if "STD" in at else at["UNCERT"]["datLoc"])
    first, second = findings(verify(path, code=1))
    assert "UNCERT: DATASUM is" in first
    assert "UNCERT: CHECKSUM is wrong: its samples changed" in second
    flip(path, at["UNCERT"]["datLoc"])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"'Synthetic'", b"'Synthetik'", 1))
    assert "primary image: CHECKSUM is wrong: its header changed" in one_finding(path)


def test_files_of_astropy_with_checksums_are_right_until_they_change(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(5))])
    image = fits.ImageHDU(samples((3, 5), "int16"))
    fits.HDUList([fits.PrimaryHDU(samples((7, 9), "uint16")), table, image]).writeto(path, checksum=True)
    verify(path, code=0)
    flip(path, path.stat().st_size - 2879)
    assert "extension 2" in findings(verify(path, code=1))[0]


@pytest.mark.parametrize("size", [0, 100, 2880, 5000, -1, -2880])
def test_a_fits_file_that_is_cut_short_is_found(masters: Path, size: int) -> None:
    path = fits_of(masters, "dark")
    path.write_bytes(path.read_bytes()[:size])
    (line,) = findings(verify(path, code=1))
    assert line.startswith(str(path))


def test_a_fits_master_that_is_another_than_the_one_in_the_store_is_found(masters: Path) -> None:
    dark, other = sorted(masters.glob("master_dark_*.fits"))[-2:]
    shutil.copy(other, dark)
    lines = findings(verify(masters, code=1))
    assert len(lines) == 2
    assert all(line.startswith(str(dark)) for line in lines)
    assert "its CALID is" in lines[0]
    assert "its INPDIGST is" in lines[1]


def test_a_master_without_its_checksums_is_found_but_not_a_frame(masters: Path, tmp_path: Path) -> None:
    path = fits_of(masters, "dark")
    path.write_bytes(path.read_bytes().replace(b"CHECKSUM=", b"NOTHING1=").replace(b"DATASUM =", b"NOTHING2="))
    assert "has lost its checksums" in one_finding(path)
    verify(write_frame(tmp_path / "raw.fits", samples(SHAPE), IMAGETYP="Dark Frame"), code=0)


# ---- places ----


def test_directories_are_searched_and_exports_are_fine(series: Path, tmp_path: Path) -> None:
    export_series(series, tmp_path / "darks" / "exp_5.000s")
    result = verify(tmp_path, code=0)
    assert result.stdout.count("FITS") == N_FRAMES
    assert "exp_5.000s.zarr" in result.stdout


def test_a_place_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    assert "there is no such series" in verify(tmp_path / "none.zarr", code=1).stderr
    (tmp_path / "empty").mkdir()
    assert "there is nothing to verify" in verify(tmp_path / "empty", code=1).stderr
    assert ostcal("verify").exit_code == 2


def test_verifying_while_a_capture_goes_on_finds_no_damage(series: Path) -> None:
    writer = open_series_for_writing(series)
    writer.extend(N_FRAMES + 1)
    frame = samples(SHAPE, seed=99)
    writer.write_frame(N_FRAMES, frame, record_of(N_FRAMES, frame))
    verify(series, code=0)
