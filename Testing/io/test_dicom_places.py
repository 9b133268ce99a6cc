"""Where slices are: rounded positions, spacings that are given, scattered series."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.read import probe, read_volume
from dicom_files import AXIAL, image, ramp, save, write_slices

VOXELS = ramp(24)


def told(volume) -> str:
    return " ".join(volume.report.get("warnings", ()))


def spaced(x: float, y: float):
    def change(k, dataset):
        dataset.PixelSpacing = [y, x]

    return change


@pytest.mark.parametrize(
    ("distance", "decimals", "is_told"), [(0.125, 2, True), (0.085, 2, True), (0.0755, 3, False), (0.3, 2, False)]
)
def test_positions_rounded_by_a_few_percent_of_a_voxel_are_an_even_grid(tmp_path, distance, decimals, is_told):
    z = [f"{5 + distance * k:.{decimals}f}" for k in range(24)]
    write_slices(tmp_path, VOXELS, z, spaced(distance, distance))
    volume = read_volume(tmp_path)
    assert volume.spacing[2] == pytest.approx(distance, rel=0.005)
    assert np.array_equal(volume.voxels, VOXELS)
    assert abs(volume.origin[2] - 5) < 0.005
    assert ("off an even grid" in told(volume)) == is_told


def test_positions_rounded_and_padded_with_zeros_are_known_as_rounded(tmp_path):
    write_slices(tmp_path, VOXELS, [f"{round(5 + 0.125 * k, 1):.6f}" for k in range(24)], spaced(0.125, 0.125))
    with pytest.raises(InputError, match=r"rounded to 0\.1 mm.*--spacing"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, spacing=(0.125, 0.125, 0.125))
    assert np.array_equal(volume.voxels, VOXELS) and volume.spacing == (0.125, 0.125, 0.125)
    assert "rounded to 0.1 mm" in told(volume)


def test_positions_so_rounded_that_slices_share_them_are_read_with_the_true_spacing(tmp_path):
    write_slices(tmp_path, VOXELS, [f"{np.floor(0.3 * k + 0.5):.0f}" for k in range(24)], spaced(0.3, 0.3))
    with pytest.raises(InputError, match=r"rounded to 1 mm.*--spacing"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, spacing=(0.3, 0.3, 0.3))
    assert np.array_equal(volume.voxels, VOXELS) and volume.spacing == (0.3, 0.3, 0.3)


def test_slices_that_share_a_rounded_place_keep_the_order_of_their_numbers(tmp_path):
    z = [f"{np.floor(0.3 * k + 0.5):.0f}" for k in range(24)]

    def from_the_top(k, dataset):
        dataset.PixelSpacing, dataset.InstanceNumber = [0.3, 0.3], 24 - k

    def without_order(k, dataset):
        dataset.PixelSpacing, dataset.InstanceNumber = [0.3, 0.3], 1 + (k * 7) % 24

    write_slices(tmp_path / "top", VOXELS, z, from_the_top)
    assert np.array_equal(read_volume(tmp_path / "top", spacing=(0.3, 0.3, 0.3)).voxels, VOXELS)
    write_slices(tmp_path / "mixed", VOXELS, z, without_order)
    with pytest.raises(InputError, match="at the place of another"):
        read_volume(tmp_path / "mixed", spacing=(0.3, 0.3, 0.3))


def test_rounding_does_not_hide_a_missing_slice(tmp_path):
    z = np.round(5 + 0.125 * np.arange(25), 2)
    kept = np.delete(np.arange(25), 11)
    write_slices(tmp_path, VOXELS, [f"{height:.2f}" for height in z[kept]], spaced(0.125, 0.125))
    for spacing in (None, (0.125,) * 3):
        with pytest.raises(InputError, match="1 missing.*IM0011.dcm and IM0012.dcm"):
            read_volume(tmp_path, spacing=spacing)


def test_a_slice_that_is_a_little_off_is_told_and_one_that_is_far_off_refused(tmp_path):
    for name, off in (("little", 0.02), ("far", 0.06)):
        z = 5 + 0.25 * np.arange(24)
        z[12] += off
        write_slices(tmp_path / name, VOXELS, z)
    assert "up to 0.0" in told(read_volume(tmp_path / "little"))
    with pytest.raises(InputError, match="uneven spacing.*IM0013.dcm"):
        read_volume(tmp_path / "far")


def test_a_distance_that_drifts_is_refused(tmp_path):
    z = 5 + 0.25 * np.arange(24) + 0.0008 * np.arange(24) ** 2
    write_slices(tmp_path, VOXELS, z)
    with pytest.raises(InputError, match="not evenly spaced"):
        read_volume(tmp_path)


def test_a_given_spacing_that_contradicts_the_file_is_refused_unless_overridden(tmp_path):
    write_slices(tmp_path, VOXELS, 1.1 * np.arange(24), spaced(0.3, 0.3))
    with pytest.raises(InputError, match=r"0\.3 x 0\.3 x 1\.1 mm.*0\.3 x 0\.3 x 0\.3 mm.*--override"):
        read_volume(tmp_path, spacing=(0.3, 0.3, 0.3))
    volume = read_volume(tmp_path, spacing=(0.3, 0.3, 0.3), override=True)
    assert volume.spacing == (0.3, 0.3, 0.3)
    assert "0.3 x 0.3 x 1.1 mm" in told(volume) and "0.3 x 0.3 x 0.3 mm" in told(volume)
    assert probe(tmp_path, (0.3, 0.3, 0.3), override=True).spacing == (0.3, 0.3, 0.3)


def test_a_given_spacing_that_is_the_recorded_one_changes_nothing(tmp_path):
    write_slices(tmp_path, VOXELS, 1.1 * np.arange(24), spaced(0.3, 0.4))
    volume = read_volume(tmp_path, spacing=(0.3, 0.4, 1.1))
    assert np.allclose(volume.spacing, (0.3, 0.4, 1.1)) and volume.report == {}


def test_a_given_spacing_fills_in_what_is_not_recorded(tmp_path):
    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24), lambda k, dataset: dataset.pop("PixelSpacing"))
    with pytest.raises(InputError, match="pixel spacing.*--spacing"):
        read_volume(tmp_path)
    assert np.allclose(read_volume(tmp_path, spacing=(0.2, 0.25, 0.3)).spacing, (0.2, 0.25, 0.3))
    with pytest.raises(InputError, match="--override"):  # the distance is recorded
        read_volume(tmp_path, spacing=(0.2, 0.25, 0.4))


def test_slices_without_positions_are_read_by_number_where_a_spacing_is_given(tmp_path):
    def without(k, dataset):
        del dataset.ImagePositionPatient, dataset.PixelSpacing
        dataset.InstanceNumber = 100 - k

    write_slices(tmp_path, VOXELS, np.zeros(24), without)
    with pytest.raises(InputError, match="where they are.*--spacing"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, spacing=(0.2, 0.25, 0.3))
    assert np.array_equal(volume.voxels, VOXELS[::-1]) and volume.spacing == (0.2, 0.25, 0.3)
    assert "mirrored" in told(volume)


def test_slices_without_positions_whose_numbers_have_a_gap_are_refused(tmp_path):
    def without(k, dataset):
        del dataset.ImagePositionPatient
        dataset.InstanceNumber = k + 1 + (k > 9)

    write_slices(tmp_path, VOXELS, np.zeros(24), without)
    with pytest.raises(InputError, match=r"gaps or doubles.*IM0010.dcm .10. comes IM0011.dcm .12"):
        read_volume(tmp_path, spacing=(0.25, 0.25, 0.3))


def test_slices_with_a_series_uid_each_are_one_volume_and_it_is_told(tmp_path):
    def scattered(k, dataset):
        dataset.SeriesInstanceUID = f"1.2.3.{k}"

    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24), scattered)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.voxels, VOXELS)
    assert "24 slices has a series UID of its own" in told(volume)


def test_a_scout_of_another_size_is_not_joined_to_scattered_slices(tmp_path):
    def scattered(k, dataset):
        dataset.SeriesInstanceUID = f"1.2.3.{k}"

    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24), scattered)
    scout = image(ramp(1, 9, 9)[0], series="1.2.77")
    scout.ImagePositionPatient, scout.ImageOrientationPatient, scout.PixelSpacing = [0, 0, 0], list(AXIAL), [1, 1]
    save(scout, tmp_path / "scout.dcm")
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.voxels, VOXELS) and "1.2.77" in told(volume)


def test_a_scout_view_in_the_series_is_left_out_and_told(tmp_path):
    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24))
    scout = image(ramp(1, 9, 9)[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, tmp_path / "A.dcm")
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.voxels, VOXELS) and "Scout views" in told(volume) and "A.dcm" in told(volume)
