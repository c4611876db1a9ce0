"""Masters for PixInsight: values between 0 and 1 and names that its scripts know; and they are found again here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ostcal import load_master_dark, load_master_flat
from ostcal.library.find import find_masters
from ostcal.library.master_names import file_name, name_of_file
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def masters_of_both(night: Night) -> tuple[n.Status, n.Status]:
    n.write_bias(night)
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0)
    return night.run(), night.run(flavour="pixinsight")


def test_values_are_shares_of_full_scale_and_names_begin_with_master(night: Night) -> None:
    adu, scaled = masters_of_both(night)
    for kind in ("bias", "dark", "flat"):
        for path, other in zip(adu.data[kind], scaled.data[kind], strict=True):
            assert re.match(rf"Master{kind.capitalize()}_", Path(other).name)
            image, _ = read_with_astropy(Path(path))
            small, header = read_with_astropy(Path(other))
            assert small.dtype == ">f4"
            assert small.min() >= 0
            assert small.max() <= 1
            np.testing.assert_allclose(small * header["ADUSCALE"], image, rtol=2e-7)
            assert header["DATAMAX"] == pytest.approx(small.max(), rel=1e-6)
            assert header["BUNIT"] == ""
            if kind != "flat":
                assert header["ADUSCALE"] == pytest.approx(65535)


def test_a_flat_comes_to_the_level_that_it_had(night: Night) -> None:
    adu, scaled = masters_of_both(night)
    header = read_with_astropy(Path(adu.data["flat"][0]))[1]
    image, _ = read_with_astropy(Path(scaled.data["flat"][0]))
    assert image.mean() * 65535 == pytest.approx(header["NORMLV"], rel=1e-5)


def test_such_masters_are_found_once_and_in_adu(night: Night) -> None:
    adu, _ = masters_of_both(night)
    config = night.config()
    dark, flat = load_master_dark(2.0, config), load_master_flat(config=config)
    np.testing.assert_array_equal(dark, read_with_astropy(Path(adu.data["dark"][-1]))[0])
    names = [master.record.name for master in find_masters(str(night.masters))]
    assert len(names) == len(set(names))
    shutil.rmtree(night.masters / "masters.zarr")
    for path in night.masters.glob("master_*.fits"):
        path.unlink()
    np.testing.assert_allclose(load_master_dark(2.0, config), dark, rtol=3e-7)
    np.testing.assert_allclose(load_master_flat(config=config), flat, rtol=3e-7)


def test_names_go_there_and_back() -> None:
    for name in ("master_bias_20261121_084200", "master_dark_5.000s_20261121_084200", "master_flat_1.000s_R_x"):
        assert name_of_file(f"folder/{file_name(name, 'pixinsight')}") == name
        assert name_of_file(f"folder/{file_name(name, 'adu')}") == name
