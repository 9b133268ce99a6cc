"""Files of many frames, judged frame by frame by the rules of single slices."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.read import read_volume
from dicom_files import (
    AXIAL,
    PIXEL,
    WORD_CAPTURE,
    enhanced,
    heights,
    image,
    item,
    ramp,
    save,
    write_slices,
)

VOXELS = ramp()
Z = 5 + PIXEL * np.arange(8)


def told(volume) -> str:
    return " ".join(volume.report.get("warnings", ()))


def refused(path, message, **options) -> str:
    with pytest.raises(InputError, match=message) as error:
        read_volume(path, **options)
    return str(error.value)


def is_scan(volume, voxels=VOXELS, lowest=Z[0], spacing=(PIXEL, PIXEL, PIXEL)) -> None:
    assert np.array_equal(volume.voxels, voxels)
    assert np.allclose(volume.spacing, spacing, rtol=1e-6)
    assert np.allclose(volume.origin, (-10, -20, lowest), atol=1e-6)


@pytest.mark.parametrize("order", [[3, 0, 7, 1, 5, 2, 6, 4], list(range(7, -1, -1)), [0, 2, 4, 6, 1, 3, 5, 7]])
def test_frames_stored_in_any_order_lie_where_they_say(tmp_path, order):
    volume = read_volume(save(enhanced(VOXELS[order], heights(Z[order])), tmp_path / "a.dcm"))
    is_scan(volume)
    assert told(volume) == ""


def test_each_frame_has_its_own_rescale(tmp_path):
    def rescale(n, frame):
        frame.PixelValueTransformationSequence = item(RescaleSlope=n + 1, RescaleIntercept=-1000 + n, RescaleType="HU")

    volume = read_volume(save(enhanced(VOXELS, heights(Z), rescale), tmp_path / "a.dcm"))
    n = np.arange(8)[:, None, None]
    is_scan(volume, VOXELS.astype(int) * (n + 1) - 1000 + n)


def test_a_missing_frame_is_named(tmp_path):
    kept = [0, 1, 2, 4, 5, 6, 7]
    text = refused(save(enhanced(VOXELS[kept], heights(Z[kept])), tmp_path / "a.dcm"), "1 missing")
    assert "frame 3 of a.dcm and frame 4 of a.dcm" in text and "0.5 mm instead of 0.25 mm" in text


def test_doubled_frames_are_named(tmp_path):
    kept = [0, 1, 2, 3, 4, 4, 5, 6]
    text = refused(save(enhanced(VOXELS, heights(Z[kept])), tmp_path / "a.dcm"), "at the place of another")
    assert "frame 5 of a.dcm and frame 6 of a.dcm" in text


@pytest.mark.parametrize(("part", "words"), [("TemporalPositionIndex", "2 time points"), ("StackID", "2 stacks")])
def test_several_volumes_in_one_file_are_refused_by_what_they_are(tmp_path, part, words):
    def mark(n, frame):
        setattr(frame.FrameContentSequence[0], part, 1 + n // 4 if part[0] == "T" else str(1 + n // 4))

    dataset = enhanced(VOXELS, heights(np.tile(Z[:4], 2)), mark)
    refused(save(dataset, tmp_path / "a.dcm"), f"{words} .1: 4, 2: 4 slices")


def test_a_tilted_gantry_shears_the_grid(tmp_path):
    positions = [(-10.0, -20.0 + 0.05 * k, 5 + PIXEL * k) for k in range(8)]
    volume = read_volume(save(enhanced(VOXELS, positions), tmp_path / "a.dcm"))
    assert "11.3 degrees" in told(volume)
    assert all(np.allclose(volume.grid.point((0, 0, k)), positions[k], atol=1e-6) for k in range(8))


def test_an_oblique_volume_from_the_top_keeps_every_place(tmp_path):
    right, down = np.array([0.6, 0.8, 0.0]), np.array([0.0, 0.0, -1.0])
    normal = np.cross(right, down)
    places = [np.array([3.0, -4.0, 5.0]) + 0.4 * k * normal for k in range(8)][::-1]
    dataset = enhanced(VOXELS, places)
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = item(
        ImageOrientationPatient=[*map(float, right), *map(float, down)]
    )
    volume = read_volume(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(volume.voxels, VOXELS[::-1])
    assert np.allclose(volume.grid.point((2, 3, 1)), places[6] + PIXEL * (2 * right + 3 * down), atol=1e-5)


def test_files_of_one_frame_each_are_a_volume(tmp_path):
    for n in range(8):
        save(enhanced(VOXELS[n : n + 1], heights(Z[n : n + 1])), tmp_path / f"{9 - n}.dcm")
    is_scan(read_volume(tmp_path))


def test_a_volume_in_two_files_is_one(tmp_path):
    for name, part in (("z", slice(0, 4)), ("a", slice(4, 8))):
        save(enhanced(VOXELS[part], heights(Z[part])), tmp_path / f"{name}.dcm")
    is_scan(read_volume(tmp_path))


def test_slices_beside_a_file_of_frames_are_judged_with_them(tmp_path):
    save(enhanced(VOXELS[:5], heights(Z[:5])), tmp_path / "frames.dcm")
    write_slices(tmp_path, VOXELS[5:], Z[5:])
    is_scan(read_volume(tmp_path))


def test_positions_decide_where_the_recorded_distance_has_a_minus(tmp_path):
    dataset = enhanced(VOXELS, heights(Z))
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = -PIXEL
    is_scan(read_volume(save(dataset, tmp_path / "a.dcm")))


def test_a_minus_without_positions_is_refused_and_no_spacing_is_advised(tmp_path):
    dataset = image(VOXELS, WORD_CAPTURE)
    dataset.PixelSpacing, dataset.SpacingBetweenSlices = [PIXEL, PIXEL], -PIXEL
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-10, -20, 5], list(AXIAL)
    path = save(dataset, tmp_path / "a.dcm")
    for options in ({}, {"spacing": (PIXEL,) * 3}, {"spacing": (PIXEL,) * 3, "override": True}):
        assert "--spacing" not in refused(path, "up or down", **options)


@pytest.mark.parametrize("place", ["shared", "own", "top", "imager"])
def test_pixel_spacing_is_found_wherever_it_is(tmp_path, place):
    def own(n, frame):
        if place == "own":
            frame.PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.3])

    dataset = enhanced(VOXELS, heights(Z), own)
    if place == "shared":
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.3])
    else:
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    if place == "top":
        dataset.PixelSpacing = [0.5, 0.3]
    if place == "imager":
        dataset.ImagerPixelSpacing = [0.5, 0.3]
    is_scan(read_volume(save(dataset, tmp_path / "a.dcm")), spacing=(0.3, 0.5, PIXEL))


def test_everything_at_the_top_level_but_the_positions(tmp_path):
    dataset = enhanced(VOXELS, heights(Z))
    del dataset.SharedFunctionalGroupsSequence
    dataset.PixelSpacing, dataset.ImageOrientationPatient = [PIXEL, PIXEL], list(AXIAL)
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -5
    is_scan(read_volume(save(dataset, tmp_path / "a.dcm")), VOXELS.astype(int) * 2 - 5)


def test_a_frame_that_is_oriented_otherwise_is_named(tmp_path):
    def turn(n, frame):
        if n == 3:
            frame.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])

    refused(save(enhanced(VOXELS, heights(Z), turn), tmp_path / "a.dcm"), "frame 4 of a.dcm is oriented unlike")


def test_a_scout_view_among_the_frames_is_left_out_and_told(tmp_path):
    def scout(n, frame):
        frame.CTImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER" if n == 7 else "VOLUME"])
        if n == 7:
            frame.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])

    volume = read_volume(save(enhanced(VOXELS, heights(Z), scout), tmp_path / "a.dcm"))
    is_scan(volume, VOXELS[:7])
    assert "frame 8 of a.dcm" in told(volume)


def test_counts_that_contradict_each_other_are_refused(tmp_path):
    described = enhanced(VOXELS, heights(Z))
    del described.PerFrameFunctionalGroupsSequence[-1]
    refused(save(described, tmp_path / "a.dcm"), "8 frames and describes 7")
    longer = enhanced(VOXELS, heights(Z))
    longer.PixelData += VOXELS[:2].tobytes()
    refused(save(longer, tmp_path / "b.dcm"), "8 frames, and its pixels are those of 10")
    shorter = enhanced(VOXELS, heights(Z))
    shorter.PixelData = VOXELS[:7].tobytes()
    refused(save(shorter, tmp_path / "c.dcm"), "incomplete: 588 of 672 bytes")


@pytest.mark.parametrize("sign", [1, -1])
def test_frames_with_offsets_only_lie_along_the_normal(tmp_path, sign):
    dataset = image(VOXELS, WORD_CAPTURE)
    dataset.PixelSpacing, dataset.ImageOrientationPatient = [PIXEL, PIXEL], list(AXIAL)
    dataset.ImagePositionPatient = [-10, -20, 5]
    dataset.GridFrameOffsetVector = [sign * 0.3 * k for k in range(8)]
    volume = read_volume(save(dataset, tmp_path / "a.dcm"))
    is_scan(volume, VOXELS[::sign], 5 if sign > 0 else 5 - 2.1, (PIXEL, PIXEL, 0.3))


def test_frames_without_a_place_each_are_read_as_they_are_stored_and_it_is_told(tmp_path):
    dataset = image(VOXELS, WORD_CAPTURE)
    dataset.PixelSpacing, dataset.SpacingBetweenSlices = [PIXEL, PIXEL], 0.3
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-10, -20, 5], list(AXIAL)
    volume = read_volume(save(dataset, tmp_path / "a.dcm"))
    is_scan(volume, spacing=(PIXEL, PIXEL, 0.3))
    assert "taken as they are stored, 0.3 mm apart" in told(volume) and "mirrored" in told(volume)


def test_a_thickness_is_no_distance_and_a_given_spacing_helps(tmp_path):
    dataset = image(VOXELS, WORD_CAPTURE)
    dataset.PixelSpacing, dataset.SliceThickness = [PIXEL, PIXEL], 0.3
    path = save(dataset, tmp_path / "a.dcm")
    assert "--spacing" in refused(path, "does not record the distance")
    volume = read_volume(path, spacing=(PIXEL, PIXEL, 0.3))
    assert np.array_equal(volume.voxels, VOXELS) and volume.spacing == (PIXEL, PIXEL, 0.3)
    assert "origin" in told(volume) and "mirrored" in told(volume)


def test_one_position_for_all_frames_is_none_for_each(tmp_path):
    dataset = enhanced(VOXELS, heights(Z), lambda n, frame: frame.pop("PlanePositionSequence"))
    dataset.SharedFunctionalGroupsSequence[0].PlanePositionSequence = item(ImagePositionPatient=[-10, -20, 5])
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.3
    volume = read_volume(save(dataset, tmp_path / "a.dcm"))
    is_scan(volume, spacing=(PIXEL, PIXEL, 0.3))
    assert "stored" in told(volume)


def test_a_frame_without_a_position_among_others_is_named(tmp_path):
    def lose(n, frame):
        if n == 2:
            del frame.PlanePositionSequence

    refused(save(enhanced(VOXELS, heights(Z), lose), tmp_path / "a.dcm"), "1 of 8 slices.*frame 3 of a.dcm")


def test_frames_that_follow_each_other_in_time_are_no_volume(tmp_path):
    dataset = image(VOXELS, WORD_CAPTURE)
    dataset.PixelSpacing, dataset.FrameTime, dataset.FrameIncrementPointer = [PIXEL, PIXEL], 40, 0x00181063
    refused(save(dataset, tmp_path / "a.dcm"), "follow each other in time")


@pytest.mark.parametrize(
    ("keyword", "words"), [("AcquisitionNumber", "2 acquisitions"), ("TemporalPositionIdentifier", "2 time points")]
)
def test_slice_files_of_two_volumes_are_refused_by_what_they_are(tmp_path, keyword, words):
    write_slices(tmp_path, VOXELS, np.tile(Z[:4], 2), lambda k, dataset: setattr(dataset, keyword, 1 + k // 4))
    text = refused(tmp_path, f"{words} .1: 4, 2: 4 slices")
    assert "--spacing" not in text


def test_two_volumes_that_nothing_tells_apart_are_refused_without_a_wrong_advice(tmp_path):
    text = refused(save(enhanced(VOXELS, heights(np.tile(Z[:4], 2))), tmp_path / "a.dcm"), "4 slices are at the place")
    assert "--spacing" not in text


def test_an_orientation_that_one_slice_lacks_is_told(tmp_path):
    write_slices(tmp_path, VOXELS, Z, lambda k, dataset: dataset.pop("ImageOrientationPatient") if k == 5 else None)
    refused(tmp_path, "IM0006.dcm does not record its orientation")


def test_frames_without_positions_are_in_the_order_of_their_numbers_in_the_stack(tmp_path):
    numbers = [3, 1, 2, 5, 4, 8, 6, 7]

    def unplaced(n, frame):
        del frame.PlanePositionSequence
        frame.FrameContentSequence[0].InStackPositionNumber = numbers[n]

    dataset = enhanced(VOXELS, heights(range(8)), unplaced)
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.25
    volume = read_volume(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(volume.voxels, VOXELS[np.argsort(numbers)])
    assert "In-Stack Position Numbers" in " ".join(volume.report["warnings"])


def test_an_x_ray_3d_craniofacial_image_is_a_volume(tmp_path):
    dataset = enhanced(VOXELS, heights(0.25 * np.arange(8)))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.13.1.2"
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    volume = read_volume(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(volume.voxels, VOXELS) and volume.spacing == (0.25, 0.25, 0.25)
