"""What headers and names say of a frame, in the spellings of the wild."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.fits.cards import Header, format_card
from ostcal.fits.headers import exposure_from_names, metadata_from_header, type_from_names
from ostcal.frames import FrameMetadata, FrameType
from support.fits_samples import header_of

BIAS, DARK, FLAT, LIGHT = FrameType


def metadata(path: str = "frame.fits", **cards: object) -> FrameMetadata:
    return metadata_from_header(header_of(**cards), width=6, height=4, path=path)


@pytest.mark.parametrize(
    "keyword", ["IMAGETYP", "HIERARCH IMAGETYPE", "OBSTYPE", "FRAME", "FRAMETYP", "HIERARCH FRAMETYPE"]
)
def test_the_kind_is_found_under_every_spelling_of_its_keyword(keyword: str) -> None:
    assert metadata(**{keyword: "Dark Frame"}).frame_type is DARK


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("DARK", DARK), ("Dark Frame", DARK), ("dark", DARK), ("FLATDARK", DARK), ("Dark flat", DARK),
        ("DARKFLAT", DARK), ("zero", BIAS), ("BIAS", BIAS), ("Bias Frame", BIAS), ("offset", BIAS),
        ("Flat Field", FLAT), ("flat", FLAT), ("FLAT,SKY", FLAT), ("SkyFlat", FLAT), ("DOME_FLAT", FLAT),
        ("Light Frame", LIGHT), ("LIGHT", LIGHT), ("OBJECT", LIGHT), ("SCIENCE", LIGHT), ("ARC", LIGHT),
        ("focus", LIGHT), ("something else", None), ("", None),
    ],
)  # fmt: skip
def test_the_kind_is_read_from_every_value(value: str, kind: FrameType | None) -> None:
    assert metadata(IMAGETYP=value).frame_type is kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("2024/darks/img_001.fits", DARK),
        ("flats/2024-03-01/img_001.fits", FLAT),
        ("flats/a/b/img_001.fits", None),
        ("x/Dark-0001_10s.fit", DARK),
        ("x/L2-dark-flat-360.00000000.FIT", DARK),
        ("x/flatdark_001.fits", DARK),
        ("dark_flats/img_001.fits", DARK),
        ("darks_and_flats/img_001.fits", None),
        ("darks_and_flats/flat_001.fits", FLAT),
        ("x/bias_0001.fits.gz", BIAS),
        ("x/zero001.fits", BIAS),
        ("offsets/img.fits", BIAS),
        ("x/gain100_offset10_300s.fits", None),
        ("x/domeflat_z_001.fits", FLAT),
        ("x/MasterDark_5s.fits", DARK),
        ("x/flatiron_nebula.fits", None),
        ("x/darkstar_001.fits", None),
        ("x/unbiased.fits", None),
        ("x/biased_estimate.fits", None),
        ("x/m31_dark_subtracted.fits", None),
        ("x/m31_flat-corrected.fits", None),
        ("flats/light_001.fits", LIGHT),
        ("", None),
        ("/", None),
    ],
)
def test_names_tell_the_kind_where_the_header_says_nothing(path: str, kind: FrameType | None) -> None:
    assert type_from_names(path) is kind
    assert metadata(path).frame_type is kind


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ("Light Frame", "atik/Flat-1s_01.fit", FLAT),
        ("Light Frame", "raw/L2-flat-hg-360.00000000.FIT", FLAT),
        ("OBJECT", "flats/img_001.fits", FLAT),
        ("Dark Frame", "raw/L2-dark-flat-360.00000000.DARK.FIT", DARK),
        ("Dark Frame", "flats/img_001.fits", DARK),
        ("Light Frame", "x/Dark-sky-300s.fit", LIGHT),
        ("Light Frame", "lights/flatiron.fits", LIGHT),
        ("Light Frame", "lights/m31_flat_corrected.fits", LIGHT),
        ("Light Frame", "flats/lights/m31.fits", LIGHT),
        ("Flat Field", "darks/img.fits", FLAT),
    ],
)
def test_names_turn_a_light_frame_into_a_flat_and_nothing_else(value: str, path: str, kind: FrameType) -> None:
    assert metadata(path, IMAGETYP=value).frame_type is kind


def test_a_dark_without_exposure_is_a_bias() -> None:
    assert metadata(OBSTYPE="DARK", EXPTIME=0.0).frame_type is BIAS
    assert metadata(OBSTYPE="DARK", EXPTIME=0.001).frame_type is DARK
    assert metadata(OBSTYPE="DARK").frame_type is DARK


@pytest.mark.parametrize(
    ("cards", "seconds"),
    [
        ({"EXPTIME": 5.0, "EXPOSURE": 7.0}, 5.0),
        ({"EXPOSURE": 7}, 7.0),
        ({"ITIME": 2.5}, 2.5),
        ({"EXP_TIME": "30"}, 30.0),
        ({"EXPOSE": 1.0}, 1.0),
        ({"EXPTIME": "soon", "EXPOSURE": 3.0}, 3.0),
        ({"EXPTIME": -1.0}, None),
        ({"EXPTIME": 1e12}, None),
        ({"EXPTIME": "NaN"}, None),
        ({"EXPTIME": True}, None),
        ({"EXPTIME": ""}, None),
    ],
)
def test_exposures_that_make_no_sense_are_missing(cards: dict[str, object], seconds: float | None) -> None:
    assert metadata(**cards).exposure_time_s == seconds


@pytest.mark.parametrize(
    ("path", "seconds"),
    [
        ("darks/exp_5.000s/img_1.fits", 5.0),
        ("darks/Dark-0001_10s.fit", 10.0),
        ("darks/dark_0.5sec_003.fits", 0.5),
        ("300s/dark_1.fits", 300.0),
        ("x/dark_100ms.fits", 0.1),
        ("x/exp_0.0005s.fits.gz", 0.0005),
        ("x/flat-expo2min30s.fit", None),
        ("x/ngc7_v2s3.fits", None),
        ("x/20250602_032138.fits", None),
    ],
)
def test_names_tell_the_exposure(path: str, seconds: float | None) -> None:
    assert exposure_from_names(path) == seconds
    assert metadata(path).exposure_time_s == seconds


def test_the_header_goes_before_names_for_the_exposure() -> None:
    assert metadata("exp_5.000s/a.fits", EXPTIME=4.0).exposure_time_s == 4.0


def test_gain_is_the_setting_and_egain_electrons() -> None:
    found = metadata(GAIN=120, OFFSET=30, EGAIN=0.25)
    assert (found.settings.gain, found.settings.offset, found.egain_e_per_adu) == (120.0, 30.0, 0.25)
    assert metadata(EGAIN=0.25).settings.gain is None
    assert metadata(BLKLEVEL=64).settings.offset == 64.0
    assert metadata(EGAIN=0.0).egain_e_per_adu is None


@pytest.mark.parametrize(
    ("cards", "binning"),
    [
        ({"XBINNING": 1, "YBINNING": 2}, (1, 2)),
        ({"XBINNING": 3}, (3, 3)),
        ({"CCDXBIN": 2, "CCDYBIN": 2}, (2, 2)),
        ({"XBIN": 4, "YBIN": 4}, (4, 4)),
        ({"BINNING": "2x2"}, (2, 2)),
        ({"BINNING": "1 2"}, (1, 2)),
        ({"BINNING": 2}, (2, 2)),
        ({"XBINNING": 0, "YBINNING": "many", "BINNING": 2}, (2, 2)),
        ({"BINNING": "1x2x3"}, (1, 1)),
        ({}, (1, 1)),
    ],
)
def test_binning_is_found_under_every_spelling(cards: dict[str, object], binning: tuple[int, int]) -> None:
    found = metadata(**cards)
    assert (found.settings.binning, found.states_binning) == (binning, cards not in ({}, {"BINNING": "1x2x3"}))


def test_readout_filter_camera_and_pixels_are_found() -> None:
    found = metadata(READMODE="High Gain", INSFLNAM="Ha", INSTRUME=" ZWO ASI ", XPIXSZ=3.76, ROWORDER="top-down")
    assert (found.settings.readout_mode, found.filter_name, found.settings.camera) == ("High Gain", "Ha", "ZWO ASI")
    assert (found.pixel_size_um, found.row_order) == ((3.76, 3.76), "TOP-DOWN")
    assert metadata(FILTER="", FILTER1="V").filter_name == "V"
    assert metadata(FILTER=3).filter_name == "3"


def test_temperatures_that_cannot_be_are_missing() -> None:
    found = metadata(SET__TEMP=-20.0, TEMPERAT=-19.5)
    assert (found.set_temperature_c, found.ccd_temperature_c) == (-20.0, -19.5)
    assert metadata(CCD__TEMP=-999.0, DET__TEMP=-10.0).ccd_temperature_c == -10.0
    assert metadata(CCDTSET="cold").set_temperature_c is None


@pytest.mark.parametrize(
    ("cards", "moment"),
    [
        ({"DATE__OBS": "2025-06-02T03:21:41.04"}, (2025, 6, 2, 3, 21, 41, 40000)),
        ({"DATE__OBS": "2025-06-02T03:21:41Z"}, (2025, 6, 2, 3, 21, 41)),
        ({"DATE__OBS": "2025-06-02T03:21:41+02:00"}, (2025, 6, 2, 1, 21, 41)),
        ({"DATE__OBS": "2016-12-31T23:59:60"}, (2017, 1, 1, 0, 0, 0)),
        ({"DATE__OBS": "2025-06-02", "TIME__OBS": "03:52:48"}, (2025, 6, 2, 3, 52, 48)),
        ({"DATE__OBS": "2025-06-02", "UT": "03:52:48.5"}, (2025, 6, 2, 3, 52, 48, 500000)),
        ({"DATE__OBS": "02/06/98", "UT": "03:52:48"}, (1998, 6, 2, 3, 52, 48)),
        ({"DATE__OBS": "02/06/25", "TIME__OBS": "03:52:48"}, (2025, 6, 2, 3, 52, 48)),
        ({"DATE__OBS": "2025-06-02", "UT": "03:52:48 UT"}, (2025, 6, 2, 3, 52, 48)),
        ({"DATE__OBS": "2025-06-02", "MJD__OBS": 60828.25}, (2025, 6, 2, 6, 0, 0)),
        ({"DATE__BEG": "2025-06-02T03:21:41"}, (2025, 6, 2, 3, 21, 41)),
        ({"DATE__OBS": "yesterday", "JD": 2460828.75}, (2025, 6, 2, 6, 0, 0)),
        ({"DATE__OBS": "2025-06-02"}, (2025, 6, 2)),
    ],
)
def test_the_start_of_the_exposure_is_found_in_utc(cards: dict[str, object], moment: tuple[int, ...]) -> None:
    assert metadata(**cards).date_obs == datetime(*moment, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2025-13-02T00:00:00", None),
        ("2025-06-02T25:00:00", datetime(2025, 6, 2, tzinfo=UTC)),
        ("0001-01-01T00:00:00", None),
        ("T", None),
        ("99/99/99", None),
    ],
)
def test_dates_that_cannot_be_are_missing_or_without_time(text: str, found: datetime | None) -> None:
    assert metadata(DATE__OBS=text).date_obs == found


@pytest.mark.parametrize(
    ("cards", "longitude_deg"),
    [
        ({"SITELONG": -17.88}, -17.88), ({"SITELONG": "-17 52 48"}, -17.88), ({"SITELONG": "-17:52:48.0"}, -17.88),
        ({"SITELONG": "17 52 48 W"}, -17.88), ({"SITELONG": "342.12"}, -17.88), ({"LONGITUD": "151.2"}, 151.2),
        ({"OBSGEO-L": 151.2}, 151.2), ({"LONG-OBS": "+151d12m00s E"}, 151.2), ({"SITELONG": 180}, -180.0),
        ({"HIERARCH ESO TEL GEOLON": -70.4045}, -70.4045), ({"SITELONG": 0.0, "SITELAT": 51.48}, 0.0),
        ({"SITELONG": 0.0, "SITELAT": 0.0}, None), ({"SITELONG": 0}, None), ({"SITELONG": 999.0}, None),
        ({"SITELONG": "unknown"}, None), ({"SITELONG": ""}, None), ({"SITELONG": "", "LONGITUD": 10}, 10.0),
    ],
)  # fmt: skip
def test_the_longitude_is_found_in_degrees_east(cards: dict[str, object], longitude_deg: float | None) -> None:
    assert metadata(**cards).longitude_deg == pytest.approx(longitude_deg)


@pytest.mark.parametrize(
    ("cards", "pattern"),
    [
        ({"BAYERPAT": "RGGB"}, "RGGB"),
        ({"COLORTYP": "bggr"}, "BGGR"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 0}, "GRBG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 0, "YBAYROFF": 1}, "GBRG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 3, "YBAYROFF": -1}, "BGGR"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 2}, "RGGB"),
        ({"BAYERPAT": "RGBG"}, None),
        ({"BAYERPAT": "TRUE"}, None),
        ({"COLORTYP": "MONO"}, None),
    ],
)
def test_the_bayer_pattern_is_that_of_the_first_pixel(cards: dict[str, object], pattern: str | None) -> None:
    assert metadata(**cards).bayer_pattern == pattern


@pytest.mark.parametrize(
    ("cards", "applied"),
    [
        ({"CALSTAT": "BDF"}, "BDF"),
        ({"CALSTAT": "D"}, "D"),
        ({"CALSTAT": "bias, dark"}, "BD"),
        ({"CALSTAT": "UNDONE"}, ""),
        ({"HISTORY": "Auto-Dark Subtraction"}, "D"),
        ({"HISTORY": "Dark subtracted"}, "D"),
        ({"HISTORY": "DARK FRAME SUBTRACTED with dark_300s.fits"}, "D"),
        ({"HISTORY": "subtracted master dark"}, "D"),
        ({"HISTORY": "Dark Subtraction (Dark 1, 1024 x 1024, Bin1 x 1, Temp -20C,"}, "D"),
        ({"HISTORY": "Bias Subtraction (Bias 4, 1024 x 1024)"}, "B"),
        ({"HISTORY": "Flat Field (Flat 2, 1024 x 1024)"}, "F"),
        ({"HISTORY": "Calibration: dark, flat"}, "DF"),
        ({"HISTORY": "No dark subtraction"}, ""),
        ({"HISTORY": "dark not subtracted"}, ""),
        ({"HISTORY": ["Opened", "Divided by flat"]}, "F"),
        ({"HISTORY": "darkness was subtracted"}, ""),
        ({"DARKCOR": "Jun  2 10:00 Dark is dark60.fits"}, "D"),
        ({"FLATCOR": "no"}, ""),
    ],
)
def test_what_was_already_calibrated_is_found(cards: dict[str, object], applied: str) -> None:
    found = metadata(**cards)
    flags = {"B": found.bias_subtracted, "D": found.dark_subtracted, "F": found.flat_divided}
    assert "".join(letter for letter, is_set in flags.items() if is_set) == applied


def test_masters_are_told_from_raw_frames() -> None:
    assert metadata(IMAGETYP="Master Dark").is_master
    assert metadata(IMAGETYP="Master Dark").frame_type is DARK
    assert metadata(NCOMBINE=20).is_master
    assert metadata("x/master_flathg.fits").is_master
    assert metadata("x/MasterFlat_R.fits").is_master
    assert not metadata("master_frames/dark_1.fits", IMAGETYP="Dark Frame").is_master
    assert not metadata("x/webmaster.fits", NCOMBINE=1).is_master


def test_an_empty_header_says_nothing() -> None:
    assert metadata() == FrameMetadata(frame_type=None, exposure_time_s=None, width=6, height=4, states_binning=False)


def test_values_are_read_as_the_standard_and_its_breakers_write_them() -> None:
    lines = [
        "NAME    = 'O''Brien  ' / a name", "OPEN    = 'no end", "COUNT   =                12 / twelve", "FLAG    = T",
        "FORTRAN =  1.5D3", "NOSPACE =5", "EMPTY   =                      / nothing", "WORD    = hello / text",
        "lower   = 3", "COUNT   = 13", "LONG    = 'abc &'", "CONTINUE  'def&'", "CONTINUE  'ghi' / end",
    ]  # fmt: skip
    header = Header([line.ljust(80) for line in lines])
    expected = {
        "NAME": "O'Brien", "OPEN": "no end", "COUNT": 12, "FLAG": True, "FORTRAN": 1500.0, "NOSPACE": 5,
        "EMPTY": None, "WORD": "hello", "LOWER": 3, "LONG": "abc defghi", "MISSING": None,
    }  # fmt: skip
    assert {keyword: header.value(keyword) for keyword in expected} == expected


@given(st.one_of(st.text(max_size=300), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_what_is_written_on_a_card_is_read_back(value: str | bool | int | float) -> None:
    cards = format_card("KEY", value, "a comment")
    assert all(len(card) == 80 and card.isascii() and card.isprintable() for card in cards)
    read = Header(cards).value("KEY")
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            assert read == value.rstrip()
    else:
        assert read == value


CARD_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=80)
KEYS = st.sampled_from(
    [
        "IMAGETYP", "EXPTIME", "DATE-OBS", "TIME-OBS", "MJD-OBS", "JD", "XBINNING", "BINNING", "BAYERPAT", "XBAYROFF",
        "GAIN", "CCD-TEMP", "CALSTAT", "HISTORY", "XPIXSZ", "NCOMBINE", "CONTINUE", "HIERARCH",
    ]
)  # fmt: skip


@given(
    st.lists(st.builds(lambda key, text: f"{key:8}= {text}"[:80].ljust(80), KEYS, CARD_TEXT), max_size=12), CARD_TEXT
)
def test_no_header_and_no_path_raises(cards: list[str], path: str) -> None:
    found = metadata_from_header(Header(cards), width=1, height=1, path=path)
    assert found.exposure_time_s is None or found.exposure_time_s >= 0
