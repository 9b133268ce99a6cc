"""DICOM folders: order, place, grey values, padding, several series, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.read import probe, read_volume
from helpers import make_grid, make_volume, position_error_mm, write_dicom, write_dicom_series
from hypothesis import given, settings
from hypothesis import strategies as st


def _scaling(slope, intercept):
    return {"0028|1053": ("DS", str(slope)), "0028|1052": ("DS", str(intercept))}


@given(
    seed=st.integers(0, 10**6),
    slices=st.integers(2, 7),
    thickness=st.floats(0.05, 3),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=15)
def test_slices_in_any_order_of_names_give_the_same_oblique_volume(tmp_path_factory, seed, slices, thickness, order):
    volume = make_volume((slices, 6, 8), "int16", seed, (0.3, 0.4, thickness))
    names = [f"{n:04d}" for n in order.sample(range(1000), slices)]
    folder = tmp_path_factory.mktemp("dicom")
    write_dicom_series(folder, volume.voxels, volume.grid, names=names)
    back = read_volume(folder)
    assert np.array_equal(back.voxels, volume.voxels)
    assert back.voxels.dtype == np.int16
    assert position_error_mm(back.grid, volume.grid) <= 1e-6


@pytest.mark.parametrize(
    ("kind", "slope", "intercept", "expected"),
    [
        ("uint16", 1, 0, "uint16"),
        ("int16", 1, 0, "int16"),
        ("int16", 1, -1024, "int32"),
        ("uint16", 2, -1024, "int32"),
        ("int16", 0.5, 3.25, "float32"),
        ("uint8", 1, 0, "uint8"),
    ],
)
def test_rescale_slope_and_intercept_are_honoured(tmp_path, kind, slope, intercept, expected):
    volume = make_volume(dtype=kind)
    write_dicom_series(tmp_path, volume.voxels, volume.grid, _scaling(slope, intercept))
    back = read_volume(tmp_path)
    assert back.voxels.dtype == expected
    assert np.allclose(back.voxels, volume.voxels.astype(np.float64) * slope + intercept, rtol=1e-6, atol=0)


def test_hounsfield_units_that_fit_come_as_int16(tmp_path):
    stored = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7) * 18
    write_dicom_series(tmp_path, stored, make_grid((7, 6, 5)), _scaling(1, -1024))
    back = read_volume(tmp_path)
    assert back.voxels.dtype == np.int16
    assert np.array_equal(back.voxels, stored.astype(int) - 1024)


def test_a_type_widens_when_a_later_slice_needs_it(tmp_path):
    stored = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7) * 300
    write_dicom_series(tmp_path, stored, make_grid((7, 6, 5)), _scaling(1, -1024))
    assert np.array_equal(read_volume(tmp_path).voxels, stored.astype(int) - 1024)


@pytest.mark.parametrize(
    ("kind", "tag", "slope", "intercept", "expected"),
    [
        ("int16", ("SS", -2000), 1, 0, -2000),
        ("int16", ("US", 63536), 1, 0, -2000),
        ("int16", ("SS", -2000), 1, -1024, -3024),
        ("uint16", ("US", 63536), 1, -1024, 62512),
        ("uint16", ("SS", -2000), 1, 0, 63536),
        ("uint16", ("US", 10), 0.5, 3, 8),
    ],
)
def test_the_padding_value_is_told_in_grey_values(tmp_path, kind, tag, slope, intercept, expected):
    volume = make_volume(dtype=kind)
    write_dicom_series(tmp_path, volume.voxels, volume.grid, {**_scaling(slope, intercept), "0028|0120": tag})
    assert read_volume(tmp_path).padding_value == expected


def test_without_the_tag_there_is_no_padding_value(tmp_path):
    volume = make_volume()
    write_dicom_series(tmp_path, volume.voxels, volume.grid)
    assert read_volume(tmp_path).padding_value is None


def _two_series(folder):
    first, second = make_volume(seed=1), make_volume((5, 6, 7), seed=2)
    for volume, uid, number, title in ((first, "1.2.3.7", 4, "Sharp"), (second, "1.2.3.8", 5, "Soft Müller")):
        tags = {"0020|000e": ("UI", uid), "0020|0011": ("IS", number), "0008|103e": ("LO", title)}
        names = [f"{uid} {k}.dcm" for k in range(len(volume.voxels))]
        write_dicom_series(folder, volume.voxels, volume.grid, tags, names)
    return first, second


def test_several_series_are_listed(tmp_path):
    _two_series(tmp_path)
    with pytest.raises(InputError) as error:
        read_volume(tmp_path)
    for part in ("Sharp: 7 slices, number 4, UID 1.2.3.7", "Soft M", "5 slices", "1.2.3.8", "--series"):
        assert part in str(error.value)
    str(error.value).encode()


@pytest.mark.parametrize("chosen", ["1.2.3.8", "5"])
def test_a_series_is_chosen_by_uid_or_number(tmp_path, chosen):
    second = _two_series(tmp_path)[1]
    assert np.array_equal(read_volume(tmp_path, series=chosen).voxels, second.voxels)


@pytest.mark.parametrize(("chosen", "message"), [("1.2", "fits 2 series"), ("7", "No series here")])
def test_a_choice_that_fits_none_or_several_series_is_refused(tmp_path, chosen, message):
    _two_series(tmp_path)
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path, series=chosen)


def test_a_scout_view_and_a_directory_file_do_not_hinder(tmp_path):
    volume = make_volume()
    write_dicom_series(tmp_path, volume.voxels, volume.grid)
    write_dicom(tmp_path / "scout.dcm", np.zeros((40, 50), np.uint16), {"0020|000e": ("UI", "1.9")})
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 20)
    (tmp_path / "readme.txt").write_text("notes")
    (tmp_path / ".DS_Store").write_bytes(b"\1\2")
    back = read_volume(tmp_path)
    assert np.array_equal(back.voxels, volume.voxels)
    assert any("Other series" in warning for warning in back.report["warnings"])
    assert any("DICOMDIR" in warning for warning in back.report["warnings"])


def test_a_missing_slice_is_named(tmp_path):
    volume = make_volume()
    files = write_dicom_series(tmp_path, volume.voxels, volume.grid)
    files[3].unlink()
    with pytest.raises(InputError, match=r"1 missing.*slice002.dcm and slice004.dcm.*0\.8 mm instead of 0\.4 mm"):
        read_volume(tmp_path)


def test_uneven_slices_are_refused_and_rounded_positions_are_not(tmp_path):
    volume = make_volume(spacing=(0.1, 0.1, 0.0762), oblique=False)
    exact = np.array([volume.grid.point((0, 0, k)) for k in range(7)])
    write_dicom_series(tmp_path / "rounded", volume.voxels, volume.grid, positions=exact.round(3))
    assert read_volume(tmp_path / "rounded").spacing[2] == pytest.approx(0.0762, abs=2e-4)
    uneven = exact.copy()
    uneven[5:] += volume.direction[:, 2] * 0.03
    write_dicom_series(tmp_path / "uneven", volume.voxels, volume.grid, positions=uneven)
    with pytest.raises(InputError, match=r"not evenly spaced \(uneven spacing\)"):
        read_volume(tmp_path / "uneven")


def test_slices_that_drift_sideways_are_refused(tmp_path):
    volume = make_volume((9, 6, 8), oblique=False)
    positions = np.array([volume.grid.point((0, 0, k)) + [0.04 * (k - 4) ** 2, 0, 0] for k in range(9)])
    write_dicom_series(tmp_path, volume.voxels, volume.grid, positions=positions)
    with pytest.raises(InputError, match="straight line"):
        read_volume(tmp_path)


def test_doubled_slices_are_refused(tmp_path):
    volume = make_volume()
    write_dicom_series(tmp_path, volume.voxels, volume.grid)
    write_dicom_series(tmp_path, volume.voxels[:1], volume.grid, names=["again.dcm"])
    with pytest.raises(InputError, match=r"again\.dcm"):
        read_volume(tmp_path)


def test_a_tilted_gantry_is_told_and_every_slice_stays_in_its_place(tmp_path):
    volume = make_volume(oblique=False)
    positions = np.array([volume.grid.point((0, 0, k)) + [0, 0.1 * k, 0] for k in range(7)])
    write_dicom_series(tmp_path, volume.voxels, volume.grid, positions=positions)
    back = read_volume(tmp_path)
    assert "14.0 degrees" in back.report["warnings"][0]
    for k in range(7):
        assert np.allclose(back.grid.point((0, 0, k)), positions[k], atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"0020|0032": ("DS", "")}, "where they are"),
        ({"0020|0037": ("DS", "")}, "where they are"),
        ({"0020|0037": ("DS", "1\\0\\0\\1\\1\\0")}, "right angles"),
        ({"0028|0030": ("DS", "")}, "pixel spacing"),
    ],
)
def test_slices_without_a_place_are_refused(tmp_path, tags, message):
    volume = make_volume()
    write_dicom_series(tmp_path, volume.voxels, volume.grid, tags)
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path)


def test_slices_that_are_unlike_are_refused(tmp_path):
    volume = make_volume()
    write_dicom_series(tmp_path, volume.voxels, volume.grid)
    for tags, pixels, message in (
        ({}, volume.voxels[0, :4], "differ in size"),
        ({"0028|0030": ("DS", "1\\1")}, volume.voxels[0], "another pixel spacing"),
        ({"0020|0037": ("DS", "1\\0\\0\\0\\1\\0")}, volume.voxels[0], "oriented unlike"),
    ):
        write_dicom_series(tmp_path, pixels[None], volume.grid, tags, names=["zz.dcm"])
        with pytest.raises(InputError, match=message):
            read_volume(tmp_path)


def test_one_slice_asks_for_its_folder(tmp_path):
    volume = make_volume()
    files = write_dicom_series(tmp_path, volume.voxels[:1], volume.grid)
    with pytest.raises(InputError, match="Give the folder"):
        read_volume(files[0])
    with pytest.raises(InputError, match="single slice"):
        read_volume(tmp_path)


def test_a_file_of_many_frames_is_a_volume_alone_and_in_its_folder(tmp_path):
    volume = make_volume(oblique=False)
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    sitk.WriteImage(image, str(tmp_path / "many.dcm"))
    for path in (tmp_path / "many.dcm", tmp_path):
        back = read_volume(path)
        assert np.array_equal(back.voxels, volume.voxels)
        assert np.allclose(back.spacing, volume.spacing, rtol=1e-6)


def test_a_damaged_slice_is_named(tmp_path):
    volume = make_volume()
    files = write_dicom_series(tmp_path, volume.voxels, volume.grid)
    files[2].write_bytes(files[2].read_bytes()[:-60])
    with pytest.raises(InputError, match=r"1 missing.*could not be read: slice002\.dcm"):
        read_volume(tmp_path)


def test_a_probe_of_a_series_reads_no_pixels(tmp_path, monkeypatch):
    volume = make_volume()
    write_dicom_series(tmp_path, volume.voxels, volume.grid)
    monkeypatch.setattr("CBCTSuperResLib.io.dicom_pixels._stored", None)
    assert probe(tmp_path).size == volume.grid.size
    assert np.allclose(probe(tmp_path).spacing, volume.spacing)
