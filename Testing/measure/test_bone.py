"""Measures of bone, against shapes whose thickness and distance are known."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.measure.bone import (
    bone_volume_fraction,
    dice,
    local_thickness,
    surface_distance,
    thickness_between,
    thickness_map,
)

STEP = 0.1


def slab(width: float, tilt: float = 0.0, offset: float = 0.3, shape=(12, 48, 48)) -> np.ndarray:
    """A plate of so many voxels with anti-aliased faces."""
    _, y, x = np.indices(shape, np.float32)
    distance = np.cos(tilt) * (y - shape[1] / 2 + offset) + np.sin(tilt) * (x - shape[2] / 2)
    return np.clip(0.5 - (np.abs(distance) - width / 2), 0, 1)


def ball(radius: float, edge: int = 32) -> np.ndarray:
    centre = np.indices((edge,) * 3, np.float32) - edge / 2 + 0.7
    return np.clip(0.5 - (np.sqrt((centre**2).sum(axis=0)) - radius), 0, 1)


def compared(image: np.ndarray, truth: np.ndarray, planes: bool = False, **bounds):
    return thickness_between(*(thickness_map(v, 0.5, (STEP,) * 3, planes) for v in (image, truth)), **bounds)


def mean_thickness(image: np.ndarray, spacing=(STEP,) * 3) -> float:
    return float(local_thickness(image, 0.5, spacing)[image > 0.5].mean())


@pytest.mark.parametrize("width", [2.5, 3.2, 4.7, 8.0])
@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_a_plate_is_as_thick_as_it_was_made(width, tilt):
    assert mean_thickness(slab(width, tilt)) == pytest.approx(width * STEP, abs=0.6 * STEP)


def test_plates_of_many_places_are_as_thick_as_they_were_made_on_average():
    found = [mean_thickness(slab(3.3, offset=o)) for o in np.linspace(0, 1, 9)]
    assert np.mean(found) == pytest.approx(3.3 * STEP, rel=0.06)


@pytest.mark.parametrize("radius", [5.0, 9.0])
def test_a_ball_is_as_thick_as_its_diameter(radius):
    found = local_thickness(ball(radius), 0.5, (STEP,) * 3)
    assert found.max() == pytest.approx(2 * radius * STEP, abs=1.0 * STEP)
    assert found[ball(radius) > 0.5].mean() > 0.88 * 2 * radius * STEP


def test_thickness_is_in_millimetres_whatever_the_voxels_are():
    image = slab(6, shape=(10, 40, 12))
    assert mean_thickness(image, (0.3, 0.1, 0.2)) == pytest.approx(0.6, abs=0.06)
    assert mean_thickness(np.repeat(image, 2, axis=2), (0.3, 0.1, 0.1)) == pytest.approx(0.6, abs=0.06)


def test_there_is_no_thickness_without_bone_and_bone_everywhere_is_as_thick_as_the_view():
    assert not local_thickness(np.zeros((4, 5, 6)), 0.5, (1, 1, 1)).any()
    assert local_thickness(np.ones((4, 5, 6)), 0.5, (1, 1, 1)).min() > 4


def test_a_plate_that_is_too_thick_is_told_as_such_in_balls_and_in_discs():
    truth, image = slab(4.0, offset=0.25), slab(5.0, offset=0.25)
    for planes in (False, True):
        found = compared(image, truth, planes)
        assert found.truth_mm == pytest.approx(0.4, abs=0.03)
        assert found.error == pytest.approx(0.25, abs=0.08)
    assert compared(truth, truth).error == 0


def test_only_bone_of_the_kind_that_is_asked_for_is_measured():
    truth = np.maximum(slab(3, offset=12), slab(12, offset=-8))
    image = np.maximum(slab(3, offset=12), slab(13, offset=-8))
    thin = compared(image, truth, largest_mm=0.6)
    thick = compared(image, truth, smallest_mm=0.6)
    assert thin.error == pytest.approx(0, abs=0.02) and thin.voxels > 0
    assert 0 < thick.error < 0.2  # one rung of the ladder of diameters
    nothing = compared(image, truth, smallest_mm=5)
    assert nothing.voxels == 0 and np.isnan(nothing.error)


def test_volume_fraction_and_overlap_count_voxels():
    bone, truth = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    bone[:, :2], truth[:, 1:3] = True, True
    assert bone_volume_fraction(bone) == 0.5
    assert bone_volume_fraction(bone, truth) == 0.5
    assert dice(bone, truth) == 0.5
    assert dice(~bone & bone, ~truth & truth) == 1


def test_the_distance_of_two_surfaces_is_that_by_which_one_was_moved():
    truth, moved = np.zeros((6, 40, 40), bool), np.zeros((6, 40, 40), bool)
    truth[:, 10:20], moved[:, 13:23] = True, True
    found = surface_distance(moved, truth, (0.2, 0.1, 0.1))
    assert found.mean == pytest.approx(0.3, abs=1e-4) and found.percentile95 == pytest.approx(0.3, abs=1e-4)
    assert surface_distance(truth, truth, (0.2, 0.1, 0.1)).percentile95 == 0
    assert np.isnan(surface_distance(truth, truth & ~truth, (1, 1, 1)).mean)


def test_surfaces_and_overlap_agree_with_simpleitk():
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    masks = [ball(8) > rng.uniform(0.2, 0.8), np.roll(ball(7) > 0.5, 2, axis=1)]
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in masks]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    assert dice(*masks) == pytest.approx(overlap.GetDiceCoefficient())
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    assert surface_distance(*masks, (1, 1, 1)).percentile95 <= hausdorff.GetHausdorffDistance() + 1e-5
