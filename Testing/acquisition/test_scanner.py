"""Blur, sampling and noise of the graded protocols."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.scanner import P2, P3, Acquisition, block_mean, correlated_noise, gaussian_blur


def structured(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    image = gaussian_blur(noise, 2, (1, 2))
    return 0.5 + 0.15 * image / image.std()


def test_gaussian_blur_equals_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(0).random((5, 30, 31))
    assert np.allclose(gaussian_blur(image, 0.85, (1, 2)), ndimage.gaussian_filter(image, (0, 0.85, 0.85)), atol=1e-12)


def test_blur_of_a_point_has_the_variance_it_was_given():
    point = np.zeros((1, 41, 41))
    point[0, 20, 20] = 1
    profile = gaussian_blur(point, 1.7, (1, 2))[0].sum(0)
    assert profile.sum() == pytest.approx(1)
    assert profile @ (np.arange(41) - 20) ** 2 == pytest.approx(1.7**2, rel=0.01)


def test_the_mean_of_two_pixels_is_centred_between_them():
    ramp = np.arange(8, dtype=np.float32)
    assert block_mean(ramp, (0,)).tolist() == [0.5, 2.5, 4.5, 6.5]
    assert block_mean(ramp[:7], (0,)).tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize("smooth", [0.0, 0.6, 1.2])
def test_smoothing_correlates_the_noise_but_keeps_its_deviation(smooth):
    noise = correlated_noise((4, 128, 128), 0.02, smooth, (1, 2), seed=1)
    assert noise.std() == pytest.approx(0.02, rel=0.03)
    neighbours = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert neighbours == pytest.approx({0.0: 0.0, 0.6: 0.446, 1.2: 0.84}[smooth], abs=0.05)


def test_the_protocols_halve_the_axes_they_name_and_repeat_with_the_seed():
    image = structured((6, 20, 22))
    axial = P2.degrade(image, seed=4)
    assert axial.shape == (6, 10, 11) and P3.degrade(image).shape == (3, 10, 11)
    assert np.array_equal(axial, P2.degrade(image, seed=4))
    assert not np.array_equal(axial, P2.degrade(image, seed=5))


def test_a_degraded_image_is_clipped_like_a_normalised_one():
    bright = np.full((2, 16, 16), 1.0, np.float32)
    assert Acquisition(noise=0.05).degrade(bright).max() == 1.0
    assert Acquisition(noise=0.05).degrade(bright, clip=False).max() > 1.0


def test_each_axis_may_have_a_blur_of_its_own():
    image = np.random.default_rng(0).random((9, 20, 22))
    one_by_one = gaussian_blur(gaussian_blur(image, 0.6, (0,)), 1.1, (2,))
    assert np.array_equal(gaussian_blur(image, (0.6, 1.1), (0, 2)), one_by_one)


def test_a_single_slice_is_scanned_as_a_slice_of_a_volume():
    image = structured((1, 20, 22))
    assert np.array_equal(P2.degrade(image[0], seed=4), P2.degrade(image, seed=4)[0])


def test_what_is_left_over_at_the_end_of_a_halved_axis_is_cut_off():
    image = np.zeros((7, 9, 12))
    assert P2.even(image).shape == (7, 8, 12) and P3.even(image).shape == (6, 8, 12)
