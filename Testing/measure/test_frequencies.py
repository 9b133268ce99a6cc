"""Resolution and noise over frequency, against images made for it."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur
from CBCTSuperResLib.measure.edges import edge_response
from CBCTSuperResLib.measure.resolution import fourier_shell_correlation
from noise_spectrum import mean_frequency, noise_spectrum


def low_passed(image: np.ndarray, cutoff: float) -> np.ndarray:
    """Without the frequencies above `cutoff`, in units of Nyquist."""
    spectrum = np.fft.fftn(image)
    squared = sum(
        np.expand_dims((2 * np.fft.fftfreq(n)) ** 2, [a for a in range(image.ndim) if a != axis])
        for axis, n in enumerate(image.shape)
    )
    return np.fft.ifftn(np.where(np.sqrt(squared) < cutoff, spectrum, 0)).real


@pytest.mark.parametrize("shape", [(96, 80), (32, 40, 36)])
@pytest.mark.parametrize("cutoff", [0.3, 0.6])
def test_images_that_agree_up_to_a_frequency_cross_one_half_there(shape, cutoff):
    rng = np.random.default_rng(0)
    truth, other = rng.standard_normal((2, *shape))
    mixed = low_passed(truth, cutoff) + other - low_passed(other, cutoff)
    curve = fourier_shell_correlation(mixed, truth)
    assert curve.crossing(0.5) == pytest.approx(cutoff, abs=0.05)


def test_an_image_agrees_with_itself_everywhere_and_with_noise_nowhere():
    truth, noise = np.random.default_rng(1).standard_normal((2, 24, 64, 64))
    assert fourier_shell_correlation(truth, truth).value.min() > 0.999
    assert fourier_shell_correlation(truth, truth).crossing(0.5) == 1
    assert abs(fourier_shell_correlation(noise, truth).value[3:]).max() < 0.3


def test_the_correlation_ignores_gain_and_offset():
    truth, noise = np.random.default_rng(2).standard_normal((2, 48, 48))
    image = truth + noise
    expected = fourier_shell_correlation(image, truth).value
    assert fourier_shell_correlation(3 * image + 7, truth).value == pytest.approx(expected)


def test_frequencies_are_those_of_the_space_and_not_of_the_grid():
    """The axis with voxels twice as far apart ends at half the frequency that the other one reaches."""
    rng = np.random.default_rng(3)
    fine = low_passed(rng.standard_normal((128, 128)), 0.4)
    noise = rng.standard_normal((64, 128))
    coarse = fine[::2] + 0.05 * noise
    curve = fourier_shell_correlation(coarse, fine[::2], spacing=(2.0, 1.0))
    assert curve.crossing(0.5) == pytest.approx(0.8, abs=0.1)  # 0.4 of the fine Nyquist is 0.8 of the coarse one


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_the_transfer_of_a_gaussian_blur_is_the_gaussian_of_theory(sigma):
    rows, columns = np.indices((96, 96), np.float32)
    sharp = np.clip(0.5 - (np.hypot(rows - 47.3, columns - 48.1) - 25.2), 0, 1)
    found = edge_response(gaussian_blur(sharp, sigma, (0, 1)), (47.3, 48.1), 25.2, reach=8)
    frequency = found.transfer.frequency
    sampled = np.sqrt(sigma**2 + 1 / 12)  # the anti-aliased edge is one pixel wide
    theory = np.exp(-2 * (np.pi * sampled * frequency / 2) ** 2)
    low = theory > 0.1
    assert found.transfer.value[low] == pytest.approx(theory[low], abs=0.05)
    assert found.overshoot < 0.02


def test_an_edge_that_swings_over_is_seen():
    rows, columns = np.indices((96, 96), np.float32)
    image = gaussian_blur(np.clip(0.5 - (np.hypot(rows - 47, columns - 48) - 25), 0, 1), 1.0, (0, 1))
    sharpened = image + 1.0 * (image - gaussian_blur(image, 1.5, (0, 1)))
    assert edge_response(sharpened, (47, 48), 25).overshoot > 0.05
    flat = edge_response(np.ones((96, 96)), (47, 48), 25)
    assert flat.overshoot == 0 and flat.transfer.crossing(0.5) == 0


def test_the_noise_spectrum_sums_to_the_variance_and_blur_lowers_its_mean_frequency():
    noise = np.random.default_rng(4).standard_normal((6, 64, 64)).astype(np.float32) * 0.02
    spectrum = noise_spectrum(noise, bins=16)
    assert spectrum.value.mean() * 64 * 64 == pytest.approx(noise.var(), rel=0.05)  # white: the same in every bin
    white, coarse = mean_frequency(spectrum), mean_frequency(noise_spectrum(gaussian_blur(noise, 1.0, ALL_AXES)))
    assert white == pytest.approx(2 / 3, abs=0.03) and coarse < 0.7 * white
    assert mean_frequency(noise_spectrum(np.zeros((2, 32, 32)))) == 0
