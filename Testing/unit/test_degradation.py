"""Simulated acquisition: the fixed one of the protocols (numpy) and the random one of training (torch)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.evaluation.simulate import ALL_AXES, block_mean, correlated_noise, degrade, gaussian_blur
from CBCTSuperResLib.training.data.degradation import Degradation

STILL = {"anisotropy": 1.0, "shift": 0.0, "noise": (0, 0)}
STILL |= {"strong_share": 0.0, "grain_share": 0.0, "contrast_share": 0.0}


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
    axial = degrade(image, seed=4)
    assert axial.shape == (6, 10, 11) and degrade(image, ALL_AXES).shape == (3, 10, 11)
    assert np.array_equal(axial, degrade(image, seed=4))
    assert not np.array_equal(axial, degrade(image, seed=5))


def test_a_degraded_image_is_clipped_like_a_normalised_one():
    bright = np.full((2, 16, 16), 1.0, np.float32)
    assert degrade(bright, noise=0.05).max() == 1.0
    assert degrade(bright, noise=0.05, clip=False).max() > 1.0


def test_without_its_randomness_the_training_scanner_is_the_protocol():
    scanner = Degradation(blur=(0.8499, 0.85, 0.8501), **STILL)
    fine = structured((1, 76, 76))
    coarse, truth = scanner(torch.from_numpy(fine)[None], torch.Generator().manual_seed(0))
    expected = degrade(fine, noise=0)[:, 3:-3, 3:-3]
    assert coarse.shape[-2:] == (32, 32) and truth.shape[-2:] == (64, 64)
    assert np.allclose(coarse[0].numpy(), expected, atol=2e-4)
    assert np.array_equal(truth[0].numpy(), np.clip(fine[:, 6:-6, 6:-6], 0, 1))


def test_the_training_scanner_repeats_with_its_generator_and_stays_in_the_window():
    fine = torch.from_numpy(structured((8, 44, 44)) * 3 - 1)[:, None]
    first, again, other = (Degradation()(fine, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    for image in (*first, *other):
        assert image.min() >= 0 and image.max() <= 1


def test_the_training_noise_has_the_deviation_that_was_drawn():
    scanner = Degradation(**{**STILL, "noise": (0.03, 0.03)})
    coarse, truth = scanner(torch.full((16, 1, 76, 76), 0.5), torch.Generator().manual_seed(0))
    assert float((coarse - 0.5).std()) == pytest.approx(0.03, rel=0.05)
    assert torch.all(truth == 0.5)


def test_grain_belongs_to_the_truth_and_is_blurred_in_the_coarse_image():
    scanner = Degradation(**{**STILL, "grain_share": 1.0, "grain": (0.04, 0.04), "grain_smooth": (0.5, 0.5)})
    coarse, truth = scanner(torch.full((16, 1, 76, 76), 0.5), torch.Generator().manual_seed(0))
    assert float(truth.std()) == pytest.approx(0.04, rel=0.05)
    assert 0.005 < float(coarse.std()) < 0.02


def test_a_change_of_contrast_is_shared_by_both_images():
    scanner = Degradation(**{**STILL, "contrast_share": 1.0})
    coarse, truth = scanner(torch.from_numpy(structured((6, 76, 76)))[:, None], torch.Generator().manual_seed(3))
    assert np.allclose(coarse.mean((1, 2, 3)), truth.mean((1, 2, 3)), atol=0.01)
    assert float(truth.mean((1, 2, 3)).std()) > 0.01


def test_the_blurs_stay_in_their_range_around_the_mode():
    scanner = Degradation(**{**STILL, "blur": (0.5, 0.85, 1.2)})
    kernels = scanner._blur_kernels(400, torch.Generator().manual_seed(0))
    across = kernels.sum(-2)[:, 0] @ (torch.arange(-6.0, 7.0) ** 2)
    sigma = across.sqrt()
    assert 0.48 < sigma.min() < 0.65 and 1.05 < sigma.max() < 1.22
    assert float(sigma.median()) == pytest.approx(0.85, abs=0.05)
