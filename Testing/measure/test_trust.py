"""Measures of truth, each against a value known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.anatomy import STANDARD_LEVELS
from CBCTSuperResLib.acquisition.scanner import IN_PLANE, P2, gaussian_blur
from CBCTSuperResLib.core.interpolate import enlarge_slice
from CBCTSuperResLib.measure import trust
from CBCTSuperResLib.measure.bone import bone_threshold


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((4, 64, 64)).astype(np.float32)
    return np.clip(0.5 + 0.6 * gaussian_blur(noise, 2, IN_PLANE), 0, 1)


def test_the_truth_is_as_far_from_the_scan_as_the_noise(truth):
    coarse = P2.degrade(truth, seed=1)
    assert trust.consistency(truth, truth, coarse, P2) == pytest.approx(1, abs=0.1)


def test_a_shifted_level_contradicts_the_scan_by_its_size(truth):
    coarse = P2.degrade(truth, seed=1)
    assert trust.consistency(truth + 0.06, truth, coarse, P2) == pytest.approx(np.hypot(1, 3), abs=0.2)


def test_an_image_that_repeats_the_noise_is_closer_to_the_scan_than_the_truth(truth):
    coarse = P2.degrade(truth, seed=1)
    cubic = np.stack([enlarge_slice(image, (64, 64)) for image in coarse])
    assert trust.consistency(cubic, truth, coarse, P2) < 0.8


def test_otsu_separates_two_levels_and_agrees_with_scikit_image():
    rng = np.random.default_rng(1)
    image = np.where(rng.random((50, 50)) < 0.3, 0.8, 0.2) + rng.normal(0, 0.02, (50, 50))
    assert 0.25 < bone_threshold(image) < 0.75
    filters = pytest.importorskip("skimage.filters")
    smooth = rng.normal(0.4, 0.2, (50, 50)) + image
    assert bone_threshold(smooth) == pytest.approx(filters.threshold_otsu(smooth), abs=0.02)


def test_only_pieces_of_four_voxels_far_from_bone_are_spurious():
    truth = np.zeros((5, 60, 60), np.float32)
    truth[:, :, :20] = 1
    image = truth.copy()
    image[2, 10, 21:25] = 1  # four voxels, 0.2 mm and more from bone: the nearest decides
    image[2, 20, 40:44] = 1  # a piece of four, 2 mm away
    image[2, 30, 40:43] = 1  # three voxels only
    image[2, 40, 20:44] = 1  # long, but joined to the bone
    image[1:3, 50, 50:52] = 1  # another piece of four
    per_cm3 = trust.spurious_bone(image, truth, (0.1, 0.1, 0.1))
    assert per_cm3 * truth.size * 1e-6 == pytest.approx(2)
    assert trust.spurious_bone(truth, truth, (0.1, 0.1, 0.1)) == 0


def test_the_negative_control_passes_who_smooths_and_fails_who_invents():
    def smooth(scan):
        slices, rows, columns = scan.shape
        return np.full((slices, 2 * rows, 2 * columns), scan.mean(), np.float32)

    def invent(scan):
        result = smooth(scan)
        result[:, 0, 0] = STANDARD_LEVELS.bone if scan.mean() < 0.3 else STANDARD_LEVELS.pulp
        return result

    assert trust.negative_control(smooth, 0.06).crossed == 0
    assert trust.negative_control(smooth, 0.06).noise < 1e-6
    assert trust.negative_control(invent, 0.06).crossed == 3 * len(trust.SEEDS)


def test_the_negative_control_measures_noise_that_is_kept():
    found = trust.negative_control(lambda scan: np.kron(scan, np.ones((1, 2, 2), np.float32)), 0.02)
    assert found.noise == pytest.approx(0.02, rel=0.1) and found.crossed == 0
