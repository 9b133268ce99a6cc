"""Measures against values known by construction and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.measure.fidelity import (
    gradient_correlation,
    gradient_energy,
    mse,
    psnr,
    ssim,
)


@pytest.fixture()
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random((12, 40, 37))
    return truth + 0.1 * rng.standard_normal(truth.shape), truth


def test_psnr_of_a_known_error_is_known():
    truth = np.zeros((2, 4, 4), np.float32)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    assert psnr(truth + 0.1, truth, data_range=10) == pytest.approx(40)
    assert psnr(truth, truth) == float("inf")


def test_psnr_and_ssim_equal_scikit_image(pair):
    metrics = pytest.importorskip("skimage.metrics")
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert psnr(*pair) == pytest.approx(metrics.peak_signal_noise_ratio(pair[1], pair[0], data_range=1.0))
    slices = [metrics.structural_similarity(a, b, **settings) for a, b in zip(*pair, strict=True)]
    assert ssim(*pair) == pytest.approx(np.mean(slices), abs=1e-9)
    assert ssim(*pair, axes=(-3, -2, -1)) == pytest.approx(metrics.structural_similarity(*pair, **settings), abs=1e-9)


def test_a_mask_leaves_the_rest_out():
    truth = np.zeros((3, 20, 20))
    image = truth.copy()
    image[:, :, 10:] = 1
    left = np.zeros((20, 20), bool)
    left[:, :10] = True
    assert mse(image, truth, left) == 0
    assert mse(image, truth, ~left) == 1
    assert ssim(image, truth, mask=left) > ssim(image, truth, mask=~left)


def test_integers_do_not_wrap_round():
    assert mse(np.array([0], np.uint16), np.array([2], np.uint16)) == 4


def test_gradient_energy_of_a_ramp_is_its_slope_squared_per_mm():
    ramp = np.arange(6.0)[:, None, None] * 3 + np.arange(5.0)[None, :, None] + np.zeros((1, 1, 4))
    assert gradient_energy(ramp) == pytest.approx((9, 1, 0))
    assert gradient_energy(ramp, (0.5, 2, 1)) == pytest.approx((36, 0.25, 0))


def test_gradient_correlation_is_one_for_a_linear_change_and_zero_for_a_flat_image(pair):
    assert gradient_correlation(3 * pair[1] + 2, pair[1]) == pytest.approx(1)
    assert gradient_correlation(*pair) < 0.9
    assert gradient_correlation(np.ones((4, 4)), np.random.default_rng(0).random((4, 4))) == 0
