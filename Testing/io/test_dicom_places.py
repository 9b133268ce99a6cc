"""Where slices are: rounded positions, spacings that are given, scattered series."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.read import probe, read_volume
from dicom_files import AXIAL, PIXEL, image, ramp, save, write_slices

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
    assert np.allclose(volume.spacing, (0.3, 0.4, 1.1)) and "records a spacing" not in told(volume)


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


def test_one_position_for_all_slices_is_none_and_a_given_spacing_orders_them_by_number(tmp_path):
    def nowhere(k, dataset):
        dataset.ImagePositionPatient, dataset.InstanceNumber = [0, 0, 0], 24 - k

    write_slices(tmp_path, VOXELS, np.zeros(24), nowhere)
    with pytest.raises(InputError, match=r"All slices record the same position.*--spacing"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, spacing=(PIXEL, PIXEL, 0.3))
    assert np.array_equal(volume.voxels, VOXELS[::-1]) and volume.spacing[2] == 0.3
    assert "same position" in told(volume) and "mirrored" in told(volume)


def test_slices_of_one_place_at_several_times_are_no_volume_even_with_a_spacing(tmp_path):
    def beating(k, dataset):
        dataset.ImagePositionPatient, dataset.TriggerTime = [0, 0, 0], str(40 * k)

    write_slices(tmp_path, VOXELS, np.zeros(24), beating)
    with pytest.raises(InputError, match="24 time points"):
        read_volume(tmp_path, spacing=(PIXEL, PIXEL, 0.3))


def test_slices_without_an_orientation_are_axial_only_where_a_spacing_says_so(tmp_path):
    write_slices(tmp_path / "a", VOXELS, 0.3 * np.arange(24), lambda k, d: d.pop("ImageOrientationPatient"))
    with pytest.raises(InputError, match=r"Image Orientation.*--spacing"):
        read_volume(tmp_path / "a")
    volume = read_volume(tmp_path / "a", spacing=(PIXEL, PIXEL, 0.3))
    assert np.allclose(volume.grid.direction, np.eye(3)) and volume.origin == (-10, -20, 0)
    assert np.array_equal(volume.voxels, VOXELS) and "axial" in told(volume)

    def sagittal(k, dataset):
        del dataset.ImageOrientationPatient
        dataset.ImagePositionPatient = [0.3 * k, 0, 0]

    write_slices(tmp_path / "b", VOXELS, np.zeros(24), sagittal)
    with pytest.raises(InputError, match="Image Orientation") as error:
        read_volume(tmp_path / "b", spacing=(PIXEL, PIXEL, 0.3))
    assert "--spacing" not in str(error.value)


@pytest.mark.parametrize(
    ("keyword", "values", "words"),
    [
        ("ConvolutionKernel", ("B30f", "B70f"), "2 reconstruction kernels .B30f: 24, B70f: 24"),
        ("AcquisitionTime", ("101010", "111010"), "2 acquisition times"),
        ("KVP", ("80", "140"), "2 tube voltages"),
        ("EchoNumbers", ("1", "2"), "2 echoes"),
        ("ImageType", (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY"]), "2 image types"),
    ],
)
def test_two_volumes_in_one_series_are_told_apart_by_what_differs(tmp_path, keyword, values, words):
    for number, value in enumerate(values):
        files = write_slices(tmp_path / "x", VOXELS, 0.3 * np.arange(24), lambda k, d, v=value: setattr(d, keyword, v))
        for file in files:
            file.rename(tmp_path / f"{number}{file.name}")
    (tmp_path / "x").rmdir()
    with pytest.raises(InputError, match=words):
        read_volume(tmp_path)


def test_a_copy_of_a_slice_is_told_as_one(tmp_path):
    files = write_slices(tmp_path, VOXELS, 0.3 * np.arange(24))
    (tmp_path / "IM0003 (1).dcm").write_bytes(files[2].read_bytes())
    with pytest.raises(InputError, match=r"the same image twice.*Remove the copies"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("keyword", "words"), [("PatientID", "2 patients"), ("FrameOfReferenceUID", "2 frames of reference")]
)
def test_a_series_of_two_patients_or_two_coordinate_systems_is_refused(tmp_path, keyword, words):
    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24), lambda k, d: setattr(d, keyword, "1.2" if k < 9 else "1.3"))
    with pytest.raises(InputError, match=rf"{words}.*IM0001\.dcm and IM0010\.dcm"):
        read_volume(tmp_path)


def test_a_coordinate_system_of_its_own_for_each_slice_is_a_habit_of_programs(tmp_path):
    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24), lambda k, d: setattr(d, "FrameOfReferenceUID", f"1.2.{k}"))
    assert np.array_equal(read_volume(tmp_path).voxels, VOXELS)


def test_a_pixel_spacing_of_zero_is_none(tmp_path):
    write_slices(tmp_path, VOXELS, 0.3 * np.arange(24), spaced(0, 0))
    with pytest.raises(InputError, match=r"pixel spacing of \(0.0, 0.0\) mm.*--spacing"):
        read_volume(tmp_path)
    assert np.allclose(read_volume(tmp_path, spacing=(0.2, 0.25, 0.3)).spacing, (0.2, 0.25, 0.3))


def test_an_instance_number_that_is_none_does_not_matter_where_positions_are_recorded(tmp_path):
    for file in write_slices(tmp_path, VOXELS, 0.3 * np.arange(24)):
        data = file.read_bytes()
        at = data.index(b"\x20\0\x13\0IS") + 8
        file.write_bytes(data[:at] + b"A " + data[at + 2 :])
    assert np.array_equal(read_volume(tmp_path).voxels, VOXELS)


def test_a_series_of_which_most_files_cannot_be_read_is_refused_even_if_the_rest_is_even(tmp_path):
    for k, file in enumerate(write_slices(tmp_path, VOXELS, np.arange(24))):
        if k % 3:  # decimal commas of a program in another language
            file.write_bytes(file.read_bytes().replace(b"-10\\-20\\", b"-1,\\-20\\"))
    with pytest.raises(InputError, match=r"16 of the 24 files of the series could not be read.*-1,"):
        read_volume(tmp_path)


def test_a_series_that_goes_on_in_the_next_folder_is_told(tmp_path):
    for k, file in enumerate(write_slices(tmp_path, VOXELS, 0.3 * np.arange(24))):
        part = tmp_path / f"part {k // 12}"
        part.mkdir(exist_ok=True)
        file.rename(part / file.name)
    assert "part 1 beside part 0" in told(read_volume(tmp_path / "part 0"))
    copies = tmp_path / "copies"
    copies.mkdir()
    for file in (tmp_path / "part 0").iterdir():
        (copies / file.name).write_bytes(file.read_bytes())
    assert "beside" not in told(read_volume(copies)).replace("part 1 beside", "")
