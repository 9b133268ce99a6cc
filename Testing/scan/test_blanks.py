"""Blank regions are found by their geometry; clamped air and metal are data."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.scan.blank_region import BlankRegion
from CBCTSuperResLib.scan.field_of_view import find_blanks
from hypothesis import given
from hypothesis import strategies as st

SHAPE = (40, 90, 100)
CENTRE = (44.5, 49.5)


def as_volume(voxels: np.ndarray, spacing=(0.4, 0.4, 0.4), padding: float | None = None) -> Volume:
    return Volume(voxels, Grid(voxels.shape[::-1], spacing), padding_value=padding)


def tissue(shape=SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1000, 50, shape).astype(np.float32)


def beyond_circle(shape=SHAPE[1:], centre=CENTRE, radius=40.0, spacing=(1.0, 1.0)) -> np.ndarray:
    """Pixels (j, i) farther than radius from the centre; the centre in pixels, the radius in the spacing's unit."""
    j, i = np.ix_(np.arange(shape[0]), np.arange(shape[1]))
    return np.hypot((j - centre[0]) * spacing[0], (i - centre[1]) * spacing[1]) > radius


def cylinder_scan(value: float = 0.0, **circle) -> tuple[np.ndarray, np.ndarray]:
    """A scan whose voxels beyond a circle have one value, and the mask (j, i) of these voxels."""
    voxels, blank = tissue(), beyond_circle(**circle)
    voxels[:, blank] = value
    return voxels, blank


def ellipsoid(radii, shape=SHAPE) -> np.ndarray:
    """Voxels inside a centred ellipsoid with radii along (k, j, i)."""
    axes = np.ix_(*(np.arange(n) - (n - 1) / 2 for n in shape))
    return sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)) < 1


def mask_of(region: BlankRegion, shape) -> np.ndarray:
    """The region's mask of the whole input, bool (k, j, i)."""
    masks = (region.mask(k) for k in range(shape[0]))
    return np.stack([np.zeros(shape[1:], bool) if mask is None else mask for mask in masks])


def fine_mask_of(region: BlankRegion, shape, scale) -> np.ndarray:
    """The region's mask on a grid `scale` times as fine along each axis."""
    k, j, i = ((np.arange(n * s) + 0.5) / s - 0.5 for n, s in zip(shape, scale, strict=True))
    masks = (region.fine_mask(at, j, i) for at in k)
    return np.stack([np.zeros((j.size, i.size), bool) if mask is None else mask for mask in masks])


def test_the_outside_of_a_cylinder_is_blank():
    voxels, blank = cylinder_scan()
    region = find_blanks(as_volume(voxels))
    assert (region.kind, region.axis, region.value) == ("cylinder", 0, 0)
    np.testing.assert_array_equal(mask_of(region, SHAPE), np.broadcast_to(blank, SHAPE))
    assert region.share == pytest.approx(blank.mean())
    assert region.radii_mm == pytest.approx((16, 16), abs=0.1)
    assert "cylinder along k of radius 16.0 mm" in region.rule


@given(
    j=st.floats(35, 55),
    i=st.floats(40, 60),
    radius=st.floats(36, 58),
    value=st.sampled_from([-1000.0, 0.0, 0.1, 3071.0]),
)
def test_a_cylinder_anywhere_is_found_within_half_a_voxel(j, i, radius, value):
    voxels, blank = cylinder_scan(np.float32(value), centre=(j, i), radius=radius)
    region = find_blanks(as_volume(voxels))
    assert region.kind == "cylinder"
    assert region.centre == pytest.approx((j, i), abs=0.5)
    assert region.radii == pytest.approx((radius, radius), abs=0.5)
    assert np.mean(mask_of(region, SHAPE)[0] != blank) < 0.002


def test_blank_corners_are_enough():
    voxels, blank = cylinder_scan(radius=60)
    assert 0 < blank.mean() < 0.05
    region = find_blanks(as_volume(voxels))
    np.testing.assert_array_equal(mask_of(region, SHAPE)[3], blank)


def test_more_than_half_may_be_blank():
    voxels, blank = cylinder_scan(radius=32)
    assert blank.mean() > 0.6
    np.testing.assert_array_equal(mask_of(find_blanks(as_volume(voxels)), SHAPE)[0], blank)


def test_a_cylinder_is_round_in_millimetres():
    voxels, blank = cylinder_scan(centre=(45, 50), radius=18, spacing=(0.5, 0.4))
    region = find_blanks(as_volume(voxels, spacing=(0.4, 0.5, 0.3)))
    assert region.radii_mm == pytest.approx((18, 18), abs=0.1)
    assert region.radii == pytest.approx((36, 45), abs=0.2)
    np.testing.assert_array_equal(mask_of(region, SHAPE)[0], blank)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cylinder_lies_along_any_axis_and_may_end_inside(axis):
    voxels, blank = cylinder_scan(radius=40)
    voxels[:6] = voxels[37:] = 0
    expected = np.broadcast_to(blank, SHAPE).copy()
    expected[:6] = expected[37:] = True
    voxels, expected = np.moveaxis(voxels, 0, axis), np.moveaxis(expected, 0, axis)
    region = find_blanks(as_volume(voxels))
    assert (region.kind, region.axis) == ("cylinder", axis)
    assert region.box[axis] == (6, 37)
    np.testing.assert_array_equal(mask_of(region, voxels.shape), expected)


def test_a_cylinder_cut_by_straight_faces_is_found_with_its_faces():
    voxels, blank = cylinder_scan(radius=50)
    voxels[:, :3] = voxels[:, :, 95:] = 0
    blank[:3] = blank[:, 95:] = True
    region = find_blanks(as_volume(voxels))
    assert region.kind == "cylinder"
    assert region.box == ((0, 40), (3, 90), (0, 95))
    np.testing.assert_array_equal(mask_of(region, SHAPE)[0], blank)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_has_blanks(dtype):
    voxels, blank = cylinder_scan()
    voxels = (voxels / 8).astype(dtype)
    np.testing.assert_array_equal(mask_of(find_blanks(as_volume(voxels)), SHAPE)[0], blank)


def test_few_slices_suffice():
    voxels, blank = cylinder_scan()
    for count in (1, 2, 3):
        region = find_blanks(as_volume(voxels[:count]))
        np.testing.assert_array_equal(mask_of(region, (count, *SHAPE[1:]))[0], blank)


def test_a_slice_without_its_blanks_does_not_hide_the_rest():
    voxels, blank = cylinder_scan()
    voxels[17] = tissue()[17]
    region = find_blanks(as_volume(voxels))
    assert region.kind == "cylinder"
    np.testing.assert_array_equal(region.mask(0), blank)


def test_the_outside_of_a_box_is_blank():
    voxels = np.full(SHAPE, -1, np.float32)
    voxels[4:, 10:80, 3:] = tissue()[4:, 10:80, 3:]
    region = find_blanks(as_volume(voxels))
    assert (region.kind, region.box) == ("box", ((4, 40), (10, 80), (3, 100)))
    np.testing.assert_array_equal(mask_of(region, SHAPE), voxels == -1)
    assert region.share == pytest.approx(np.mean(voxels == -1))


def test_blank_slices_at_the_ends_are_blank():
    voxels = tissue()
    voxels[:2] = voxels[35:] = 7
    region = find_blanks(as_volume(voxels))
    assert [k for k in range(40) if region.mask(k) is not None] == [0, 1, 35, 36, 37, 38, 39]
    assert region.mask(0).all()


def test_an_elliptic_field_of_view_that_fills_the_slice_is_blank_outside():
    j, i = np.ix_(np.arange(90) - 44.5, np.arange(100) - 49.5)
    blank = (j / 55) ** 2 + (i / 50.3) ** 2 > 1
    voxels = tissue()
    voxels[:, blank] = 0
    region = find_blanks(as_volume(voxels))
    assert region.kind == "cylinder"
    assert np.mean(region.mask(0) != blank) < 0.002
    assert "radii" in region.rule


@pytest.mark.parametrize(
    "radii",
    [(19, 40, 45), (30, 40, 40), (19, 19, 19), (60, 40, 30), (25, 44, 49)],
    ids=["head", "round head", "ball", "tooth", "filling the volume"],
)
@pytest.mark.parametrize("value", [-1000, 0])
def test_clamped_air_around_a_body_whose_outline_changes_is_not_blank(radii, value):
    voxels = np.where(ellipsoid(radii), tissue(), value)
    region = find_blanks(as_volume(voxels))
    assert region.kind == "none" and not region
    assert region.mask(5) is None and region.share == 0


def test_a_constant_corner_that_changes_from_slice_to_slice_is_not_blank():
    voxels = tissue()
    for k in range(SHAPE[0]):
        voxels[k, beyond_circle(radius=40 + 0.6 * k)] = 0
    assert find_blanks(as_volume(voxels)).kind == "none"


def test_clamped_air_around_a_prism_that_is_neither_disc_nor_box_is_not_blank():
    j, i = np.ix_(np.arange(90) - 44.5, np.arange(100) - 49.5)
    head = (np.abs(j / 35) ** 3 + np.abs(i / 25) ** 1.3) < 1
    assert find_blanks(as_volume(np.where(head, tissue(), 0))).kind == "none"


def test_saturated_metal_is_not_blank():
    voxels = tissue()
    voxels[ellipsoid((6, 8, 8))] = 3071
    voxels[10:30, 40:50, :4] = 3071
    assert find_blanks(as_volume(voxels)).kind == "none"


def test_a_plain_scan_has_no_blanks():
    region = find_blanks(as_volume(tissue()))
    assert region.kind == "none"
    assert region.fine_mask(0.25, np.arange(4.0), np.arange(5.0)) is None


def test_a_constant_volume_has_no_blanks():
    assert find_blanks(as_volume(np.zeros(SHAPE, np.uint16))).kind == "none"


def test_air_inside_the_field_of_view_stays_data_although_it_has_the_blanks_value():
    voxels, blank = cylinder_scan(value=-1000)
    voxels[ellipsoid((15, 12, 12))] = -1000
    region = find_blanks(as_volume(voxels))
    np.testing.assert_array_equal(mask_of(region, SHAPE), np.broadcast_to(blank, SHAPE))


def test_clamped_air_at_the_wall_of_the_field_of_view_stays_data():
    voxels, blank = cylinder_scan(value=-1000)
    k, j, i = np.ix_(*(np.arange(n) for n in SHAPE))
    voxels[i > 75 + 5 * np.sin(j / 9) + k / 20] = -1000
    region = find_blanks(as_volume(voxels))
    assert region.kind == "cylinder"
    assert not region.fine_mask(5, np.arange(90), np.arange(100))[~blank].any()


def test_noisy_air_clamped_at_the_blanks_value_stays_data():
    voxels, blank = cylinder_scan(value=-1000)
    air = np.maximum(np.random.default_rng(1).normal(-1000, 60, SHAPE), -1000)
    outside_head = ~ellipsoid((30, 30, 25)) & ~blank
    voxels[outside_head] = air[outside_head]
    region = find_blanks(as_volume(voxels))
    np.testing.assert_array_equal(mask_of(region, SHAPE), np.broadcast_to(blank, SHAPE))


def test_padding_is_blank_by_its_geometry():
    voxels, blank = cylinder_scan(value=-2000)
    region = find_blanks(as_volume(voxels, padding=-2000))
    assert region.kind == "cylinder" and "padding value" in region.rule
    np.testing.assert_array_equal(region.mask(0), blank)


def test_padding_of_any_shape_is_blank():
    voxels = np.where(ellipsoid((30, 40, 45)), tissue(), -2000)
    region = find_blanks(as_volume(voxels, padding=-2000))
    assert region.kind == "values" and "padding value" in region.rule
    np.testing.assert_array_equal(mask_of(region, SHAPE), voxels == -2000)
    assert region.share == pytest.approx(np.mean(voxels == -2000))


def test_a_padding_value_that_no_voxel_has_is_passed_over():
    voxels, blank = cylinder_scan(value=0)
    region = find_blanks(as_volume(voxels, padding=-2000))
    assert region.value == 0
    np.testing.assert_array_equal(region.mask(0), blank)


def test_a_given_value_is_blank_wherever_it_is():
    voxels, _ = cylinder_scan(value=-1000)
    voxels[ellipsoid((15, 12, 12))] = -1000
    region = find_blanks(as_volume(voxels), -1000)
    assert region.kind == "values"
    np.testing.assert_array_equal(mask_of(region, SHAPE), voxels == -1000)


def test_a_given_value_that_a_cylinder_explains_has_a_smooth_border():
    voxels, _ = cylinder_scan(value=-1000)
    assert find_blanks(as_volume(voxels), "-1000").kind == "cylinder"


def test_a_given_value_that_no_voxel_has_leaves_nothing_blank():
    region = find_blanks(as_volume(tissue()), -5)
    assert region.kind == "none" and "-5" in region.rule


def test_blanks_can_be_switched_off():
    voxels, _ = cylinder_scan()
    assert find_blanks(as_volume(voxels, padding=0), "none").kind == "none"


@pytest.mark.parametrize("option", ["corners", np.nan, np.inf, None])
def test_an_option_that_makes_no_sense_is_refused(option):
    with pytest.raises(OptionError):
        find_blanks(as_volume(tissue((3, 4, 5))), option)


def test_the_fine_border_follows_the_circle_and_not_the_input_voxels():
    voxels, _ = cylinder_scan(radius=40)
    region = find_blanks(as_volume(voxels))
    fine = fine_mask_of(region, SHAPE, (1, 4, 4))
    exact = beyond_circle((360, 400), (179.5, 199.5), 160)
    assert np.mean(fine[0] != exact) < 0.002
    stairs = np.repeat(np.repeat(region.mask(0), 4, 0), 4, 1)
    assert np.mean(stairs != exact) > 0.005


def test_the_fine_border_of_a_box_is_the_face_of_its_voxels():
    voxels = np.full(SHAPE, -1, np.float32)
    voxels[4:30, 10:80, 3:] = tissue()[4:30, 10:80, 3:]
    region = find_blanks(as_volume(voxels))
    fine = fine_mask_of(region, SHAPE, (2, 2, 2))
    expected = np.ones_like(fine)
    expected[8:60, 20:160, 6:] = False
    np.testing.assert_array_equal(fine, expected)


@given(scale=st.sampled_from([2, 3.3, 4]), start=st.integers(0, 60), length=st.integers(1, 30))
def test_a_crop_of_the_fine_grid_has_the_crop_of_its_mask(scale, start, length):
    voxels, _ = cylinder_scan()
    region = find_blanks(as_volume(voxels))
    j, i = (np.arange(int(n * scale)) / scale for n in SHAPE[1:])
    whole = region.fine_mask(3.0, j, i)
    crop = region.fine_mask(3.0, j[start : start + length], i[start : start + length])
    expected = whole[start : start + length, start : start + length]
    np.testing.assert_array_equal(np.zeros_like(expected) if crop is None else crop, expected)


def test_a_fine_mask_of_values_asks_the_nearest_input_voxel():
    voxels = np.where(ellipsoid((30, 40, 45)), tissue(), -2000)
    region = find_blanks(as_volume(voxels, padding=-2000))
    fine = fine_mask_of(region, SHAPE, (2, 2, 2))
    expected = (voxels == -2000).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(fine, expected)


def test_a_repeating_mask_is_computed_once_and_cannot_be_changed():
    voxels, _ = cylinder_scan()
    region = find_blanks(as_volume(voxels))
    j, i = np.arange(180) / 2 - 0.25, np.arange(200) / 2 - 0.25
    assert region.mask(0) is region.mask(39)
    assert region.fine_mask(0, j, i) is region.fine_mask(38.5, j.copy(), i.copy())
    with pytest.raises(ValueError, match="read-only"):
        region.mask(0)[0, 0] = False


def test_blank_voxels_that_the_fit_leaves_inside_belong_to_the_input_mask():
    voxels, blank = cylinder_scan(centre=(44.31, 49.77), radius=40.2)
    blank[44, 10:12] = True
    voxels[:, blank] = 0
    region = find_blanks(as_volume(voxels))
    assert region.mask(5)[44, 10] and not region.fine_mask(5, np.array([44.0]), np.array([30.0, 50.0]))


def test_the_mixed_rim_of_a_resampled_scan_belongs_to_the_input_mask():
    voxels, _ = cylinder_scan(value=-2000)
    coarse = (voxels[:, ::2, ::2] + voxels[:, 1::2, ::2] + voxels[:, ::2, 1::2] + voxels[:, 1::2, 1::2]) / 4
    region = find_blanks(as_volume(coarse))
    assert region.kind == "cylinder"
    assert coarse[~mask_of(region, coarse.shape)].min() > 500
    assert region.mask(0).sum() > region.fine_mask(0, np.arange(45), np.arange(50)).sum()
    plain, _ = cylinder_scan(value=-2000)
    assert find_blanks(as_volume(plain)).rim is None


def test_a_turned_volume_is_blank_where_it_was():
    voxels, _ = cylinder_scan(value=-2000)
    resampled = (voxels[:, ::2, ::2] + voxels[:, 1::2, ::2] + voxels[:, ::2, 1::2] + voxels[:, 1::2, 1::2]) / 4
    for axis in range(3):  # of the cylinder
        region = find_blanks(as_volume(np.ascontiguousarray(np.moveaxis(resampled, 0, axis))))
        assert (region.kind, region.axis) == ("cylinder", axis) and region.rim is not None
        mask = mask_of(region, region.voxels.shape)
        for across in range(3):
            turned = region.as_acquired(across)
            assert np.array_equal(mask_of(turned, turned.voxels.shape), mask.swapaxes(0, across))
    values = BlankRegion("values", "those of 0", 0.0, voxels=np.random.default_rng(0).integers(0, 2, (4, 5, 6)))
    turned = values.as_acquired(2)
    assert np.array_equal(mask_of(turned, (6, 5, 4)), values.voxels.swapaxes(0, 2) == 0)


def test_a_region_can_be_reported():
    voxels, _ = cylinder_scan(value=-1000)
    region = find_blanks(as_volume(voxels))
    told = json.loads(json.dumps(region.to_json()))
    assert told == {"kind": "cylinder", "value": -1000, "share": region.share, "rule": region.rule}


def test_finding_blanks_leaves_the_volume_as_it_is():
    voxels, _ = cylinder_scan()
    voxels.flags.writeable = False
    before = voxels.copy()
    find_blanks(as_volume(voxels))
    np.testing.assert_array_equal(voxels, before)


@pytest.mark.parametrize(
    ("name", "share"), [("tooth.nrrd", 0.0), ("trabecular_microct.nrrd", 0.0), ("head_anisotropic.nrrd", 0.1538)]
)
def test_blank_shares_of_real_scans(shared_data, name, share):
    volume = Volume.read(shared_data / name)
    region = find_blanks(volume)
    assert region.share == pytest.approx(share, abs=0.001)
    if share:
        assert np.all(mask_of(region, volume.voxels.shape)[volume.voxels == 0])
        assert np.all(volume.voxels[fine_mask_of(region, volume.voxels.shape, (1, 1, 1))] == 0)


def test_clamped_air_around_a_real_skull_is_not_blank(shared_data):
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / "craniofacial_labels.nii.gz")))
    assert find_blanks(as_volume(labels)).kind == "none"


def test_masks_may_be_asked_for_from_several_threads():
    voxels, _ = cylinder_scan()
    region = find_blanks(as_volume(voxels))
    starts = [n % 500 for n in range(4000)]

    def shares(start: int) -> float:
        mask = region.fine_mask(0, np.arange(10.0) + start / 10, np.arange(10.0))
        return 0.0 if mask is None else float(mask.mean())

    expected = [shares(start) for start in starts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shares, starts)) == expected
