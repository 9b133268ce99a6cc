"""The comparison of denoising: what is compared with what, and that a better method has the better figures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage", reason="scikit-image is not installed")

from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur  # noqa: E402

from grading.denoise import BORDER, as_table, grade, noisy, scan_without_noise  # noqa: E402

SHAPE = (20, 40, 44)


def test_the_truth_is_the_scan_with_its_blur_and_without_its_noise():
    truth = scan_without_noise(SHAPE)
    for noise, correlation in [(0.02, 0.0), (0.05, 0.6)]:
        added = noisy(truth, noise, correlation) - truth
        assert added.std() == pytest.approx(noise, rel=0.1)
        assert np.corrcoef(added[..., 1:].ravel(), added[..., :-1].ravel())[0, 1] == pytest.approx(correlation, abs=0.1)


def test_rows_rank_methods_by_what_they_leave():
    truth = scan_without_noise(SHAPE)
    methods = {
        "perfect": lambda scan, noise: truth + np.float32(1e-6),
        "smooth": lambda scan, noise: gaussian_blur(scan, 2.0, ALL_AXES),
    }
    (row,) = grade(methods, [0.04], [0.0], SHAPE)
    found = row["methods"]
    assert found["perfect"]["psnr"] > 100 > found["non-local means"]["psnr"] > found["noisy scan"]["psnr"] + 1
    assert found["perfect"]["gradient_correlation"] > 0.999 and min(SHAPE) / 2 > BORDER
    inner = tuple(slice(BORDER, n - BORDER) for n in SHAPE)
    noise = (np.clip(noisy(truth, 0.04, 0.0), 0, 1) - truth)[inner]
    assert found["noisy scan"]["psnr"] == pytest.approx(-10 * np.log10(np.mean(noise**2)), abs=1e-3)
    header, _, line = as_table([row]).splitlines()
    assert header.count("|") == line.count("|") == 7 and "4 | 0 |" in line
