"""The scanner that training draws at random for every sample."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.scanner import Acquisition, gaussian_blur
from CBCTSuperResLib.train.data.degradation import Degradation

STILL = {"anisotropy": 1.0, "shift": 0.0, "noise": (0, 0)}
STILL |= {"strong_share": 0.0, "grain_share": 0.0}


def structured(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    image = gaussian_blur(noise, 2, (1, 2))
    return 0.5 + 0.15 * image / image.std()


def scanned(scanner: Degradation, fine: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(coarse, truth) of slices (N, H, W), each from a generator of its own."""
    samples = [scanner(image[None], np.random.default_rng([seed, n])) for n, image in enumerate(fine)]
    return tuple(np.concatenate([sample[side] for sample in samples]) for side in ("LR", "HR"))


def pair(sample: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return sample["LR"], sample["HR"]


@pytest.mark.parametrize("sigma", [0.7, 0.85])
def test_without_its_randomness_the_training_scanner_is_the_protocol(sigma):
    scanner = Degradation(blur=(sigma, sigma, sigma), **STILL)
    fine = structured((1, 76, 76))
    coarse, truth = scanned(scanner, fine)
    expected = Acquisition(blur=sigma, noise=0).degrade(fine)[:, 3:-3, 3:-3]
    assert coarse.shape[-2:] == (32, 32) and truth.shape[-2:] == (64, 64)
    assert np.allclose(coarse, expected, atol=2e-4)
    assert np.array_equal(truth, np.clip(fine[:, 6:-6, 6:-6], 0, 1))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_blur_of_a_coarse_pixel_grows_with_the_factor(scale):
    scanner = Degradation(scale, blur=(0.8, 0.8, 0.8), **STILL)
    edge = 12 * scale + 2 * scanner.margin
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, edge, dtype=np.float32), (1, edge, edge))
    coarse, truth = pair(scanner(ramp, np.random.default_rng(0)))
    assert coarse.shape == (1, 12, 12) and truth.shape == (1, 12 * scale, 12 * scale)
    assert np.allclose(coarse, truth.reshape(1, 12, scale, 12, scale).mean((2, 4)), atol=1e-5)
    kernel = scanner._blur(np.random.default_rng(0))[0].sum(0)
    steps = np.arange(len(kernel)) - scanner.margin
    assert kernel @ steps**2 == pytest.approx((0.8 * scale / 2) ** 2, rel=0.02) or scale == 1


def test_a_sample_depends_on_its_own_generator_alone_and_stays_in_the_window():
    fine = structured((8, 44, 44)) * 3 - 1
    together, alone = scanned(Degradation(), fine), pair(Degradation()(fine[5:6], np.random.default_rng([0, 5])))
    assert all(np.array_equal(a[5:6], b) for a, b in zip(together, alone, strict=True))
    assert not np.array_equal(together[0], scanned(Degradation(), fine, seed=1)[0])
    for image in together:
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1


def test_the_channels_of_a_colour_image_share_the_blur_but_not_the_noise():
    fine = np.repeat(structured((1, 44, 44)), 3, axis=0)
    same, _ = pair(Degradation(**STILL)(fine, np.random.default_rng(0)))
    noisy, _ = pair(Degradation(**{**STILL, "noise": (0.03, 0.03)})(fine, np.random.default_rng(0)))
    assert np.array_equal(same[0], same[1]) and not np.array_equal(noisy[0], noisy[1])


def test_the_training_noise_has_the_deviation_that_was_drawn():
    scanner = Degradation(**{**STILL, "noise": (0.03, 0.03)})
    coarse, truth = scanned(scanner, np.full((16, 76, 76), 0.5, np.float32))
    assert float((coarse - 0.5).std()) == pytest.approx(0.03, rel=0.05)
    assert np.all(truth == 0.5)


def test_grain_belongs_to_the_truth_and_is_blurred_in_the_coarse_image():
    scanner = Degradation(**{**STILL, "grain_share": 1.0, "grain": (0.04, 0.04), "grain_smooth": (0.5, 0.5)})
    coarse, truth = scanned(scanner, np.full((16, 76, 76), 0.5, np.float32))
    assert float(truth.std()) == pytest.approx(0.04, rel=0.05)
    assert 0.005 < float(coarse.std()) < 0.02


def test_the_blurs_stay_in_their_range_around_the_mode():
    scanner = Degradation(**{**STILL, "blur": (0.5, 0.85, 1.2)})
    kernels = np.array([scanner._blur(np.random.default_rng(n))[0] for n in range(400)])
    sigma = np.sqrt(kernels.sum(-2) @ np.arange(-6.0, 7.0) ** 2)
    assert 0.48 < sigma.min() < 0.65 and 1.05 < sigma.max() < 1.22
    assert float(np.median(sigma)) == pytest.approx(0.85, abs=0.05)


def test_a_sharpened_truth_has_more_of_what_a_blur_takes_and_the_scan_stays():
    fine = structured((1, 64, 64))
    plain, sharp = (pair(Degradation(2, **{**STILL, "sharpen": s})(fine, np.random.default_rng(0))) for s in (0.0, 0.2))
    assert np.array_equal(plain[0], sharp[0])
    soft = gaussian_blur(fine, 1.0, (1, 2))
    inner = (slice(None), slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(sharp[1], (fine + 0.2 * (fine - soft))[inner], atol=1e-4)
    assert np.abs(sharp[1] - plain[1]).max() > 1e-3


def test_noise_of_neighbouring_slices_is_alike_for_a_share_of_images_only():
    flat = np.full((5, 212, 212), 0.5, np.float32)
    noisy = {**STILL, "noise": (0.05, 0.05), "across": (0.6, 0.6)}
    for share, expected in ((1.0, 0.6), (0.0, 0.0)):
        coarse, _ = pair(Degradation(2, **{**noisy, "across_share": share})(flat, np.random.default_rng(0)))
        found = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(coarse, coarse[1:], strict=False)]
        assert np.allclose(found, expected, atol=0.05)
        assert coarse.std() == pytest.approx(0.05, rel=0.05)


def test_what_a_network_may_be_told_is_what_was_done():
    flat = np.full((1, 212, 212), 0.5, np.float32)
    ranges = {"blur": (0.6, 1.8), "anisotropy": 1.3, "noise": (0.01, 0.05), "uneven": 0.4, "midband_share": 0.5}
    for seed in range(12):
        scanner = Degradation(2, **{**STILL, **ranges})
        told = scanner(flat, np.random.default_rng(seed))
        assert told["blur"].shape == (2,) and told["noise"].shape == (1,)
        assert told["LR"].std() == pytest.approx(told["noise"][0], rel=0.08)
        kernel, blur = scanner._blur(np.random.default_rng(seed))
        steps = np.arange(len(kernel)) - scanner.margin
        found = [np.sqrt(kernel.sum(axis) @ steps**2) / 2 for axis in (1, 0)]  # two fine pixels are a coarse one
        assert found == pytest.approx(blur, rel=0.05)


def test_what_a_network_is_told_may_be_as_far_off_as_estimates_are_and_no_image_changes():
    flat = np.full((1, 44, 44), 0.5, np.float32)
    plain = {**STILL, "blur": (1.0, 1.0), "noise": (0.02, 0.02)}
    off = {"told_blur_error": (-0.4, 0.2), "told_noise_error": 0.3, "told_by_image": 0.5}
    right, wrong = (
        [Degradation(2, **{**plain, **more})(flat, np.random.default_rng(seed)) for seed in range(200)]
        for more in ({}, off)
    )
    for one, other in zip(right, wrong, strict=True):
        assert all(np.array_equal(one[role], other[role]) for role in ("LR", "HR"))
        assert one["blur"] == pytest.approx(0.5) and one["noise"] == pytest.approx(0.02)
    blurs = np.array([told["blur"] for told in wrong])
    assert 0.3 <= blurs.min() < 0.32 and 0.58 < blurs.max() <= 0.6
    assert np.array_equal(blurs[:, 0], blurs[:, 1])  # an estimate errs alike along both axes
    logarithms = np.log([float(told["noise"][0]) / 0.02 for told in wrong])
    assert abs(logarithms.mean()) < 0.06 and logarithms.std() == pytest.approx(0.3, rel=0.2)


def test_noise_may_be_told_as_the_image_itself_tells_it_with_the_grain_of_the_truth():
    flat, textured = np.full((5, 140, 140), 0.5, np.float32), 0.5 + 0.5 * (structured((5, 140, 140)) - 0.5)
    plain = {**STILL, "blur": (0.4, 0.4), "noise": (0.01, 0.01), "told_by_image": 1.0}
    grainy = {**plain, "grain": (0.06, 0.06), "grain_smooth": (0.6, 0.6)}

    def told(image, **options) -> float:
        return float(Degradation(2, **options)(image, np.random.default_rng(1))["noise"][0])

    assert told(flat, **plain) == pytest.approx(0.01, rel=0.15)
    with_grain = Degradation(2, **{**grainy, "grain_share": 1.0})(flat, np.random.default_rng(1))
    assert with_grain["LR"].std() > 0.02
    assert float(with_grain["noise"][0]) == pytest.approx(with_grain["LR"].std(), rel=0.15)
    assert 0.015 < told(textured, **plain) <= np.hypot(0.01, 0.04) + 1e-6  # nothing is flat: texture counts


def test_noise_of_a_filtered_back_projection_has_no_slow_part():
    flat = np.full((1, 212, 212), 0.5, np.float32)
    slow = []
    for share in (0.0, 1.0):
        scanner = Degradation(2, **{**STILL, "noise": (0.05, 0.05), "midband_share": share})
        noise = scanner(flat, np.random.default_rng(3))["LR"] - 0.5
        slow.append(gaussian_blur(noise, 4.0, (1, 2)).std())
    assert slow[1] < 0.35 * slow[0]


def test_grey_values_of_8_bit_files_are_rounded_before_the_network_sees_them():
    scanner = Degradation(2, **{**STILL, "quantised_share": 1.0})
    steps = scanner(structured((1, 44, 44)), np.random.default_rng(0))["LR"] * 255
    assert np.allclose(steps, np.round(steps), atol=1e-4)
