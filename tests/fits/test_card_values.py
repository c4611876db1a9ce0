"""Values as people and programs write them: read, unknown, or unreadable and named."""

from __future__ import annotations

import pytest

from ostcal.fits.cards import Header
from ostcal.fits.headers import exposure_from_text, metadata_from_header
from ostcal.fits.kinds import type_from_names
from ostcal.frames import FrameMetadata, FrameType
from support.fits_samples import header_of

BIAS, DARK, FLAT, LIGHT = FrameType


def metadata(path: str = "frame.fits", **cards: object) -> FrameMetadata:
    return metadata_from_header(header_of(**cards), width=6, height=4, path=path)


@pytest.mark.parametrize(
    ("cards", "seconds"),
    [
        ({"EXPTIME": "0,5"}, 0.5),
        ({"EXPTIME": "30 s"}, 30.0),
        ({"EXPTIME": "30sec"}, 30.0),
        ({"EXPTIME": "10.00ms"}, 0.01),
        ({"EXPTIME": "20 us"}, 2e-5),
        ({"EXPTIME": "1/250 s"}, 0.004),
        ({"EXPTIME": "1,5E1"}, 15.0),
        ({"EXPTIME": "2 min"}, 120.0),
        ({"EXPOSURE": (500, "[ms] Exposure")}, 0.5),
        ({"EXPOSURE": (500.0, "Exposure time in ms")}, 0.5),
        ({"EXPOSURE": (1500000, "(us) exposure")}, 1.5),
        ({"EXPOSURE": (7, "[s] not in ms at all")}, 7.0),
        ({"EXPOINUS": 2000000}, 2.0),
        ({"EXPOINUS": (2000000, "Exposure time in us")}, 2.0),
        ({"EXPTIME": 0, "EXPOSURE": 0.25}, 0.25),
        ({"EXPTIME": "N/A", "EXPOSURE": 3.0}, 3.0),
        ({"EXPTIME": "0.5 sec."}, 0.5),
        ({"EXPTIME": "1/2.5"}, 0.4),
        ({"EXPTIME": "00:05:00"}, 300.0),
        ({"EXPTIME": "0:00:12,5"}, 12.5),
        ({"EXP": (15.0, "[s] Sub Exposure Time")}, 15.0),
        ({"XPOSURE": 5.0}, 5.0),
        ({"EXPTIME": (90000, "exposure time, ms")}, 90.0),
        ({"EXPTIME": (500, "milliseconds")}, 0.5),
        ({"EXPTIME": (5, "minutes")}, 300.0),
        ({"EXPTIME": (280, "seconds")}, 280.0),
        ({"EXPTIME": (5, "total exposure")}, 5.0),
        ({"EXPTIME": 30, "EXPOSURE": (30000, "[ms]")}, 30.0),
        ({"EXPTIME": 30, "EXPOSURE": 30000}, 30.0),
        ({"EXPTIME": 0.0, "EXPOSURE": 0.0}, 0.0),
    ],
)
def test_exposures_with_units_and_commas_are_read(cards: dict[str, object], seconds: float) -> None:
    found = metadata(**cards)
    assert found.exposure_time_s == pytest.approx(seconds, rel=1e-12)
    assert (found.unreadable, found.remarks) == ((), ())


@pytest.mark.parametrize("word", ["nan", "NaN", "N/A", "n/a", "unknown", "None", "---", "", "INDEF"])
@pytest.mark.parametrize("keyword", ["EXPTIME", "GAIN", "OFFSET", "CCD__TEMP", "SET__TEMP", "XBINNING"])
def test_words_for_unknown_are_no_values(keyword: str, word: str) -> None:
    assert metadata(**{keyword: word}) == metadata()


@pytest.mark.parametrize(
    ("card", "celsius"),
    [
        ("CCD-TEMP= '-10,5   '", -10.5),
        ("CCD-TEMP= '-10 \xb0C  '", -10.0),
        ("CCD-TEMP= '-10 \xc2\xb0C '", -10.0),  # UTF-8, read as Latin-1
        ("CCD-TEMP= '\xe2\x88\x9210   '", -10.0),  # a minus sign, U+2212
        ("CCD-TEMP= '263.15 K'", -10.0),
        ("CCD-TEMP=               263.15 / Kelvin", -10.0),
        ("CCD-TEMP=               263.15 / CCD temperature, K", -10.0),
        ("CCD-TEMP=               168.15", -105.0),
        ("CCD-TEMP=                -10.0 / in Celsius, it was 263 in K", -10.0),
        ("CAMTEMP = '-48'                / degrees C", -48.0),
    ],
)
def test_temperatures_are_read_in_their_units(card: str, celsius: float) -> None:
    found = metadata_from_header(Header([card.ljust(80)]), width=6, height=4, path="x.fits")
    assert (found.ccd_temperature_c, found.unreadable) == (celsius, ())


@pytest.mark.parametrize("comment", ["F", "deg F", "[F] sensor", "in Fahrenheit"])
def test_fahrenheit_is_not_read(comment: str) -> None:
    assert "its temperature is not known" in metadata(CCD__TEMP=(14, comment)).unreadable[0]


@pytest.mark.parametrize("word", ["off", "OFF", "Uncooled"])
def test_a_cooler_that_is_off_has_no_set_point(word: str) -> None:
    assert metadata(SET__TEMP=word) == metadata()


@pytest.mark.parametrize(
    ("cards", "remark"),
    [
        ({"EXPTIME": 30.0, "EXPOSURE": 5.0}, "EXPTIME is 30 s, but EXPOSURE 5 s: taken as 30 s"),
        ({"EXPTIME": "soon", "EXPOSURE": 5.0}, "EXPTIME is 'soon': EXPOSURE counts"),
        ({"EXPTIME": 20.0, "ITIME": 2.0, "COADDS": 10}, None),
        ({"EXPTIME": 30.0, "EXPOSURE": 30.2}, None),
        ({"XBINNING": 1, "YBINNING": 1, "BINNING": "2x2"}, "BINNING is '2x2', but other cards say a binning of 1x1"),
        ({"XBINNING": 2, "YBINNING": 2, "CCDSUM": "2 2"}, None),
        ({"CALSTAT": "Calibrated"}, "CALSTAT is 'Calibrated', which does not say what was subtracted"),
    ],
)
def test_cards_that_contradict_each_other_are_named(cards: dict[str, object], remark: str | None) -> None:
    found = metadata(**cards)
    assert found.unreadable == ()
    assert found.remarks[0].startswith(remark) if remark else found.remarks == (), found.remarks


@pytest.mark.parametrize("degrees", [-273.15, -300.0, -999.0, 999.0])
def test_temperatures_that_cannot_be_are_unknown(degrees: float) -> None:
    assert metadata(CCD__TEMP=degrees, SET__TEMP=degrees) == metadata()


@pytest.mark.parametrize(
    ("keyword", "value", "quantity"),
    [
        ("EXPTIME", "soon", "exposure"),
        ("EXPTIME", "5 parsecs", "exposure"),
        ("EXPTIME", "1_000", "exposure"),
        ("EXPTIME", "12:30", "exposure"),
        ("EXPTIME", True, "exposure"),
        ("GAIN", "many", "gain"),
        ("OFFSET", "10;20", "offset"),
        ("CCD__TEMP", "cold", "temperature"),
        ("SET__TEMP", "-10 F", "temperature"),
        ("BINNING", "1x2x3", "binning"),
        ("XBINNING", "many", "binning"),
        ("XBINNING", 1.5, "binning"),
    ],
)
def test_what_cannot_be_read_is_named_with_card_and_value(keyword: str, value: object, quantity: str) -> None:
    (line,) = metadata("darks/dark_5s.fits", **{keyword: value}).unreadable
    assert line.startswith(f"{keyword.replace('__', '-')} is {value!r}")
    assert f"its {quantity} is not known" in line


def test_a_name_does_not_stand_in_for_an_unreadable_exposure() -> None:
    assert metadata("darks/dark_5s.fits", EXPTIME="soon").exposure_time_s is None


def test_an_exposure_of_zero_beside_another_is_contradictory() -> None:
    for kind in ("Dark Frame", "Bias Frame", "Flat", "Light"):
        for card in ("EXPOSURE", "ITIME", "EXP", "EXPOSE"):
            found = metadata(IMAGETYP=kind, EXPTIME=0.0, **{card: 30.0})
            assert found.unreadable == (f"EXPTIME is 0 and {card} 30 s: its exposure is not known; repair the header",)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("Dark_5,0s", 5.0),
        ("Dark_0_5_secs", 0.5),
        ("Dark Tv1-250s ISO800", 1 / 250),
        ("dark_1e-3s", 0.001),
        ("dark_20us", 2e-5),
        ("dark_5min", 300.0),
        ("Dark_300.0s_Bin1_gain100", 300.0),
        ("Dark-0001_10s", 10.0),
        ("dark_exp_15.000000_gain_60_bin_1", 15.0),
        ("bias_gain_2_bin_1", None),
        ("dark_001_5s", 5.0),
        ("flat-expo2min30s", None),
        ("ngc7_v2s3", None),
    ],
)
def test_names_tell_exposures_in_the_spellings_of_the_wild(name: str, seconds: float | None) -> None:
    reading = exposure_from_text(f"d/{name}.fits")
    assert (reading.value, reading.problem) == (seconds, "")


@pytest.mark.parametrize("name", ["dark_1_5s", "dark_2_30_s", "x_0_10s"])
def test_a_name_that_may_be_read_in_two_ways_is_not_read(name: str) -> None:
    found = metadata(f"d/{name}.fits")
    assert found.exposure_time_s is None
    assert "its exposure is not known" in found.unreadable[0]
    assert metadata(f"d/{name}.fits", EXPTIME=5.0).unreadable == ()


@pytest.mark.parametrize(
    ("cards", "gain", "iso"),
    [
        ({"GAIN": 0.246000007}, 0.246, None),
        ({"GAIN": 0.1}, 0.1, None),
        ({"GAIN": "ISO800"}, 800.0, None),
        ({"ISOSPEED": "ISO 1600"}, 1600.0, None),
        ({"ISO": 400}, 400.0, None),
        ({"GAIN": 1, "ISOSPEED": 800}, 1.0, 800.0),
        ({"GAIN": "1,5"}, 1.5, None),
    ],
)
def test_gain_and_iso(cards: dict[str, object], gain: float, iso: float | None) -> None:
    found = metadata(**cards).settings
    assert (found.gain, found.iso) == (gain, iso)


@pytest.mark.parametrize("text", ["2x2", "2 2", "2,2", "2 x 2", "Bin2", "2", "(2, 2)", "bin 2x2", "2*2", "2 by 2"])
@pytest.mark.parametrize("keyword", ["BINNING", "CCDSUM", "XBINNING"])
def test_binning_in_words(keyword: str, text: str) -> None:
    found = metadata(**{keyword: text})
    assert (found.settings.binning, found.unreadable) == ((2, 2), ())


def test_settings_that_few_cameras_have() -> None:
    settings = metadata(XORGSUBF=12, YORGSUBF=34, COADDS=10, ROWORDER="bottom-up").settings
    assert (settings.subframe_origin, settings.coadds, settings.row_order) == ((12, 34), 10, "BOTTOM-UP")
    assert metadata(FRAMEX=12, FRAMEY=34).settings.subframe_origin == (12, 34)
    assert metadata(DETSEC="[13:112, 35:134]").settings.subframe_origin == (13, 35)
    assert metadata(DETSEC="[112:13,134:35]").settings.subframe_origin == (13, 35)
    assert metadata(XORGSUBF=1, YORGSUBF=2, DETSEC="[13:112,35:134]").settings.subframe_origin == (1, 2)
    assert metadata(ROWORDER="TOPDOWN").settings.row_order == "TOP-DOWN"
    assert [metadata(FLIPSTAT=text).settings.flip for text in ("Flip/Mirror", "")] == ["Flip/Mirror", "none"]
    assert metadata().settings.flip is None


def test_the_offset_of_the_pattern_has_two_names() -> None:
    assert metadata(BAYERPAT="RGGB", BAYOFFX=1, BAYOFFY=0).bayer_pattern == "GRBG"
    assert metadata(BAYERPAT="RGGB", BAYOFFX=0, BAYOFFY=1).bayer_pattern == "GBRG"
    assert metadata(BAYERPAT="BAYER_RGGB").bayer_pattern == "RGGB"
    assert metadata(CFAIMAGE="GRBG").bayer_pattern == "GRBG"
    assert metadata(CFAIMAGE="no").bayer_pattern is None


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"FILTER1": "open1-6", "FILTER2": "r_G0303"}, "r_G0303"),
        ({"FILTER1": "i_G0302", "FILTER2": "open2-8"}, "i_G0302"),
        ({"FILTER": "V", "FILTER2": "ND4"}, "V+ND4"),
        ({"FILTER": "rp", "FILTER1": "air", "FILTER2": "rp"}, "rp"),
        ({"FILTER": "V", "FILTER1": "3"}, "V"),
        ({"FILTER": "Clear"}, "Clear"),
        ({"FILTER1": "open", "FILTER2": "open"}, "open"),
        ({"ALFLTNM": "Open", "FAFLTNM": "V_Bes"}, "V_Bes"),
        ({"FILTER": 3, "FILTNAM": "R"}, "R"),
        ({"FILTERS": "4 0"}, "4 0"),
        ({"FILTER": "N/A"}, None),
        ({"FILTER": "unknown", "FILTER2": "R"}, "R"),
        ({"FILTER": "none"}, "none"),
        ({"HIERARCH ESO INS FILT1 NAME": "FREE", "HIERARCH ESO INS FILT2 NAME": "R#642"}, "R#642"),
        ({"FILTID1": "V", "FILTID2": "Open"}, "V"),
    ],
)
def test_filters_of_all_wheels_count(cards: dict[str, object], name: str | None) -> None:
    assert metadata(**cards).filter_name == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("flats/Ha/flat_001.fits", "Ha"),
        ("flats/flat_R_001.fits", "R"),
        ("flats/flat_r_001.fits", "r"),
        ("flats/flat_OIII_1s.fits", "OIII"),
        ("flats/flat_001.fits", None),
        ("flats/Ha OIII/flat_001.fits", "Ha+OIII"),  # a filter for two lines is no other filter for two lines
        ("flats/SII_OIII/flat_001.fits", "SII+OIII"),
        ("flats/L-eXtreme/flat_001.fits", "L-eXtreme"),
        ("flats/O-III/flat_001.fits", "OIII"),
        ("flats/H\u03b1/flat_001.fits", "Ha"),
        ("flats/flatV001.fits", "V"),
        ("flats/skyflatRed_1.fits", "Red"),
        ("flats/flatly.fits", None),
        ("Ha/dark_001.fits", None),
    ],
)
def test_a_filter_may_stand_in_names_only(path: str, name: str | None) -> None:
    assert metadata(path).filter_name == name
    assert metadata(path, FILTER="V").filter_name == "V"


def test_a_filter_in_utf_8_is_read() -> None:
    header = header_of(FILTER="H?")
    cards = [card.replace("H?", "H\xce\xb1") for card in header.cards]  # alpha in UTF-8, read as Latin-1
    found = metadata_from_header(type(header)(cards), width=6, height=4, path="x.fits")
    assert found.filter_name == "Halpha"


@pytest.mark.parametrize(
    ("path", "cards", "kind"),
    [
        ("Big Flat/m31_001.fits", {"IMAGETYP": "LIGHT"}, LIGHT),
        ("Big Flat/img_001.fits", {"IMAGETYP": "Light Frame"}, LIGHT),
        ("lights/Flat_Rock_M31.fits", {"IMAGETYP": "LIGHT"}, LIGHT),
        ("flats/M31_001.fits", {"IMAGETYP": "LIGHT"}, LIGHT),
        ("flats/img_001.fits", {"IMAGETYP": "LIGHT", "OBJECT": "NGC 7000"}, LIGHT),
        ("flats/img_001.fits", {"IMAGETYP": "LIGHT"}, FLAT),
        ("lab0/flat-Neg5-tel-expo2min30s.00000000.FIT", {"IMAGETYP": "Light Frame"}, FLAT),
        ("raw/L2-flat-hg-360.00000000.FIT", {"IMAGETYP": "Light Frame"}, FLAT),
        ("x/a.fits", {"OBSTYPE": "OBJECT", "OBJECT": "dome flat V"}, FLAT),
        ("x/a.fits", {"OBSTYPE": "OBJECT", "OBJECT": "Flat Rock"}, LIGHT),
        ("x/a.fits", {"OBSTYPE": "OBJECT", "IMAGETYP": "bias"}, BIAS),
        ("x/a.fits", {"OBJECT": "bias"}, BIAS),
        ("x/a.fits", {"OBJECT": "dark 300s"}, DARK),
        ("x/a.fits", {"OBJECT": "Dark Nebula"}, None),
        ("x/a.fits", {"OBJECT": "M 31"}, None),
        ("x/a.fits", {"PICTTYPE": 2}, BIAS),
        ("x/a.fits", {"PICTTYPE": 3}, DARK),
        ("x/a.fits", {"FRAME": "Flat"}, FLAT),
        ("x/a.fits", {"FRAME": 12}, None),
        ("x/a.fits", {"IMAGTYP": "Bias Frame"}, BIAS),
        ("x/a.fits", {"IMTYPE": "DOMEFLAT"}, FLAT),
        ("x/a.fits", {"KOAIMTYP": "flatlampoff"}, LIGHT),
        ("x/a.fits", {"HIERARCH ESO DPR TYPE": "FLAT,LAMP"}, FLAT),
        ("x/a.fits", {"HIERARCH ESO DPR TYPE": "LAMP,WAVE"}, LIGHT),
        ("darks/a.fits", {"IMAGETYP": "flat"}, FLAT),
        ("x/a.fits", {"IMAGETYP": "twilight"}, FLAT),
        ("x/a.fits", {"IMAGETYP": "Noir"}, DARK),
        ("x/a.fits", {"IMAGETYP": "PLU"}, FLAT),
        ("x/a.fits", {"IMAGETYP": "Dunkelbild"}, DARK),
        ("x/a.fits", {"IMAGETYP": "Luz"}, LIGHT),
        ("x/a.fits", {"PICTTYPE": 3.0}, DARK),
        ("x/a.fits", {"IMG_TYPE": "DARK"}, DARK),
        ("x/a.fits", {"CALFRAME": "MasterFlat"}, FLAT),
        ("Dark Shark/a.fits", {}, None),
        ("x/LDN1622_dark_nebula.fits", {}, None),
        ("Flat Rock/a.fits", {}, None),
        ("x/AutoFlat-R-001.fts", {}, FLAT),
        ("noirs/a.fits", {}, DARK),
        ("x/plu_V_1.fits", {}, FLAT),
        ("x/plus_1.fits", {"OBJECT": "M 31"}, FLAT),
        ("x/dflat001.fits", {}, FLAT),
        ("darks/2026-01-10/20_11_12/rawframes/frame_1.fits", {}, DARK),
        ("darks/2026/01/10/20_11/frame_1.fits", {}, None),
        ("darks/m31/night/frame_1.fits", {}, None),
    ],
)
def test_the_header_goes_before_names_for_the_kind(path: str, cards: dict[str, object], kind: FrameType | None) -> None:
    assert metadata(path, **cards).frame_type is kind


def test_contradictions_are_named() -> None:
    assert "taken as a light frame" in metadata("Big Flat/a.fits", IMAGETYP="LIGHT").remarks[0]
    assert "taken as a flat" in metadata("flats/a.fits", IMAGETYP="LIGHT").remarks[0]
    assert "FRAME 'Dark': taken as light" in metadata("x/a.fits", IMAGETYP="LIGHT", FRAME="Dark").remarks[0]
    assert metadata("flats/a.fits", IMAGETYP="FLAT").remarks == ()
    assert type_from_names("Big Flat/a.fits") is FLAT
    (remark,) = metadata("darks/a.fits", IMAGETYP="Cal 7").remarks
    assert remark == "IMAGETYP is 'Cal 7', which is not understood: taken as dark, as its name says"
    for text in ("unknown", "N/A", "", "12"):
        assert metadata("darks/a.fits", IMAGETYP=text).remarks == ()
    assert metadata("x/a.fits", IMAGETYP="Cal 7").remarks == ()


@pytest.mark.parametrize(
    ("cards", "applied"),
    [
        ({"SUBBIAS": "subbias"}, "B"),
        ({"SUBDARK": "subdark", "FLATCOR": "flatcor"}, "DF"),
        ({"BIASCORR": "COMPLETE", "DARKCORR": "COMPLETE", "FLATCORR": "PERFORM"}, "BD"),
        ({"DARKCORR": "OMIT"}, ""),
        ({"L1STATBI": 1, "L1STATDA": 1, "L1STATFL": 0}, "BD"),
        ({"L1STATBI": 0}, ""),
        ({"BIASIM": "N20260110_bias.fits"}, "B"),
        ({"ZEROCOR": "Nov 15 2:58 Zero level correction image is Zero"}, "B"),
        ({"DARKCOR": True}, "D"),
        ({"DARKCOR": False}, ""),
        ({"HISTORY": "Dark subtracted: False"}, ""),
        ({"HISTORY": "Dark subtracted = F"}, ""),
        ({"HISTORY": "dark subtracted: 0"}, ""),
        ({"HISTORY": "Dark subtracted: True"}, "D"),
        ({"HISTORY": "ImageCalibration.masterDark.enabled: true"}, "D"),
        ({"HISTORY": "ImageCalibration.masterBias.enabled: false"}, ""),
        ({"HISTORY": "ImageCalibration.masterFlat.enabled: true"}, "F"),
        ({"HISTORY": "Soustraction du noir"}, "D"),
        ({"HISTORY": "Division par la plu"}, "F"),
        ({"HISTORY": "Offset subtracted"}, "B"),
        ({"HISTORY": "Bias subtracted, no dark subtracted"}, "B"),
        ({"HISTORY": "Dark frame 'd300.fit' subtracted"}, "D"),
        ({"HISTORY": "Removed bias"}, "B"),
        ({"HISTORY": "flat-fielded with mflat.fits"}, "F"),
        ({"HISTORY": "Flat field: F"}, ""),
        ({"HISTORY": "Calibration: MasterDark, MasterFlat"}, "DF"),
        ({"HISTORY": "Calibrated with masterbias"}, "B"),
        ({"HISTORY": "Noir soustrait"}, "D"),
        ({"HISTORY": "Correction de PLU"}, "F"),
        ({"HISTORY": "Dunkelbild abgezogen"}, "D"),
        ({"HIERARCH subtract_bias": "subbias"}, "B"),
        ({"HIERARCH flat_correct": "flatcor"}, "F"),
        ({"DARKCOR": "Not applied"}, ""),
        ({"DARKCOR": "unset"}, ""),
        ({"DARKCOR": "no dark"}, ""),
        ({"DARKCOR": "Nov 15 dark image is d.fits"}, "D"),
        ({"CALSTAT": "BDFC"}, "BDF"),
        ({"CALSTAT": "OFF"}, ""),
        ({"CALSTAT": "False"}, ""),
        ({"CALSTAT": "F"}, "F"),
        ({"CALSTAT": "dark corrected"}, "D"),
    ],
)
def test_marks_of_earlier_processing(cards: dict[str, object], applied: str) -> None:
    found = metadata(**cards)
    flags = {"B": found.bias_subtracted, "D": found.dark_subtracted, "F": found.flat_divided}
    assert "".join(letter for letter, is_set in flags.items() if is_set) == applied


def test_masters_of_other_programs_are_no_raw_frames() -> None:
    assert metadata(STACKCNT=20).is_master
    assert metadata(HISTORY="ImageIntegration.numberOfImages: 20").is_master
    assert metadata("x/mdark_300.fits").is_master
    assert metadata("x/mflat.fits").frame_type is FLAT
    assert metadata("x/MD-IG_100.0-E300.0s.fits").frame_type is DARK
    assert metadata("x/MF-IG_100.0-E1.0s.fits").is_master
    assert not metadata("x/m31_flat.fits").is_master
    assert not metadata(SNAPSHOT=1).is_master
    for cards in (
        {"CALFRAME": "MasterDark"}, {"INTEGRAT": "Integration"}, {"ISMASTER": True}, {"PROCTYPE": "MasterCal"},
        {"HIERARCH ESO PRO CATG": "MASTER_BIAS"}, {"COMBINED": "T"},
    ):  # fmt: skip
        assert metadata(**cards).is_master, cards
    for cards in ({"INTEGRAT": 5.0}, {"ISMASTER": False}, {"PROCTYPE": "raw"}, {"COMBINED": "F"}):
        assert not metadata(**cards).is_master, cards
    for name in ("superflat_V", "dark_stacked", "Bias_combined", "avg_dark", "DarkMaster", "flat_median"):
        assert metadata(f"x/{name}.fits").is_master, name
    for name in ("dark_001", "flat_R_average_seeing", "superb_dark_1", "m31_dark"):
        assert not metadata(f"x/{name}.fits").is_master, name


def test_a_frame_that_siril_calibrated_is_left_out() -> None:
    (line,) = metadata("x/pp_light_00001.fit", PROGRAM="Siril 1.2.1").unreadable
    assert "Siril calibrated it" in line
    assert metadata("x/pp_light_00001.fit").unreadable == ()


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("10.01.2026", "2026-01-10T00:00:00"),
        ("20260110T201112", "2026-01-10T20:11:12"),
        ("2026-01-10_20:11:12", "2026-01-10T20:11:12"),
        ("2026-01-10T20h11m12s", "2026-01-10T20:11:12"),
        ("2026-01-10T20:11:12,345", "2026-01-10T20:11:12.345000"),
        ("1/10/2026 8:11:12 PM", "2026-01-10T20:11:12"),
        ("2026-01-10T20: 1: 2", "2026-01-10T20:01:02"),
        ("1/10/2026 12:11:12 AM", "2026-01-10T00:11:12"),
    ],
)
def test_dates_in_the_spellings_of_the_wild(text: str, iso: str) -> None:
    found = metadata(DATE__OBS=text).date_obs
    assert found is not None
    assert found.replace(tzinfo=None).isoformat() == iso
