"""The registry of measures: every figure on images whose value is known, and NaN where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.phantom import jaw_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, P2, P3, gaussian_blur
from CBCTSuperResLib.measure.catalogue import MEASURES, Truth, View

STEP = 0.15


@pytest.fixture(scope="module")
def truth() -> Truth:
    field = gaussian_blur(jaw_phantom((12, 96, 96), STEP, 7), 0.45, ALL_AXES)
    return Truth(np.clip(field, 0, 1), (STEP,) * 3)


def figures(view: View) -> dict[str, float]:
    return {measure.name: measure.of(view) for measure in MEASURES}


def test_the_truth_itself_gets_the_best_value_of_every_measure(truth):
    found = figures(View(truth.image, truth))
    assert math.isnan(found.pop("consistency"))  # there is no scan to agree with
    best = {measure.name: measure.best for measure in MEASURES}
    for name, value in found.items():
        assert value == pytest.approx(best[name], abs=1e-6), name


def test_a_blurred_image_is_worse_in_every_measure_that_sees_blur(truth):
    found = figures(View(gaussian_blur(truth.image, 1.5, ALL_AXES), truth))
    assert found["psnr"] < 30 and found["ssim"] < 0.97 and found["ssim_3d"] < 0.97 and found["mae"] > 0.5
    assert found["gradient_energy"] < 0.8 and found["gradient_correlation"] < 0.97 and found["dice"] < 0.99
    assert found["thickness_trabecular"] > 5 and found["surface_mean"] > 0.01
    assert found["fsc"] <= 1


@pytest.mark.parametrize("acquisition", [P2, P3], ids=lambda a: a.protocol)
def test_the_truth_is_one_noise_away_from_its_scan_in_both_protocols(truth, acquisition):
    coarse = acquisition.degrade(truth.image, seed=3)
    found = figures(View(truth.image, truth, coarse, acquisition))
    assert found["consistency"] == pytest.approx(1, abs=0.12)


def test_without_spacing_or_bone_what_needs_them_is_not_a_number(truth):
    plain = figures(View(truth.image, Truth(truth.image)))
    assert {m.name for m in MEASURES if m.needs_spacing} <= {name for name, value in plain.items() if math.isnan(value)}
    assert not math.isnan(plain["dice"])
    flat = np.full((12, 32, 32), 0.3, np.float32)
    without = figures(View(flat, Truth(flat, (STEP,) * 3)))
    assert all(math.isnan(without[m.name]) for m in MEASURES if m.needs_bone)
    assert without["psnr"] == math.inf


def test_names_and_texts_are_there_for_people():
    assert len({m.name for m in MEASURES}) == len(MEASURES) == len({m.label for m in MEASURES})
    assert all(m.hint.endswith(".") for m in MEASURES)
