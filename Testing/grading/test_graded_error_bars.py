"""What is measured of error bars: coverage, ranks and masks that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.models.intervals import GAUSSIAN, Intervals
from scipy.stats import norm

from grading.error_bars import Measured, as_table, settings_between


def made(factor: float = 1.0, size: int = 200_000) -> Measured:
    """Errors that are Gaussian with deviations of 0.01 to 0.1, of which `factor` times as much is told."""
    random = np.random.default_rng(0)
    deviation = random.uniform(0.01, 0.1, size)
    truth = random.choice([0.3, 0.7], size)
    result = truth + deviation * random.standard_normal(size)
    chance = 100 * norm.sf(np.abs(result - 0.5) / deviation)
    return Measured(truth, result, factor * deviation, chance)


def test_coverage_is_that_of_ninety_per_cent_intervals():
    assert made().coverage == pytest.approx(0.9, abs=3e-3)
    assert made(0.5).coverage == pytest.approx(0.589, abs=3e-3) and pytest.approx(1.645, abs=1e-3) == GAUSSIAN


def test_the_rank_correlation_knows_order_alone():
    ordered = made()
    assert ordered.rank_correlation == pytest.approx(made(7.0).rank_correlation)
    assert ordered.rank_correlation > 0.3
    shuffled = replace(ordered, deviation=np.random.default_rng(1).permutation(ordered.deviation))
    assert abs(shuffled.rank_correlation) < 0.01


def test_the_mask_counts_what_it_flags_and_what_it_holds_of_wrong_structure():
    truth = np.array([0.2, 0.2, 0.8, 0.8] * 100)
    result = np.array([0.2, 0.9, 0.8, 0.1] * 100)  # the second and the fourth are structures that are not there
    deviation = np.array([0.01, 0.3, 0.01, 0.02] * 100)
    measured = Measured(truth, result, deviation, deviation)
    found = measured.mask(measured.deviation > 0.19)
    assert (found["flagged"], found["held_of_wrong"], found["voxels_wrong"]) == (0.25, 0.5, 200)
    even = np.linspace(0, 1, 400)
    swapped = np.where(np.abs(even - 0.5) < 0.02, 1 - even, even)  # on the other side, by less than makes a structure
    found = replace(measured, truth=even, result=swapped).mask(even > 0.5)
    assert np.isnan(found["held_of_wrong"]) and found["other_side"] == pytest.approx(0.04, abs=0.004)
    assert found["held_of_other_side"] == pytest.approx(0.5, abs=0.1)


def test_scans_are_pooled_voxel_by_voxel():
    one, other = made(size=100), made(size=50)
    whole = Measured.of_all([one, other])
    assert whole.error.size == 150 and np.array_equal(whole.misclassified[100:], other.misclassified)


def test_the_table_has_a_line_for_each_object():
    mask = {"flagged": 0.01, "held_of_wrong": 0.5, "held_of_other_side": 0.9, "other_side": 0.007, "voxels_wrong": 31}
    figures = {"coverage": 0.9, "rank": 0.55, **dict.fromkeys(("mask", "widest", "bone"), mask), "best_rank": 0.69}
    rows = [{"data": "jaw", "blur": 0.5, "noise": 0.02, "coverage": c} for c in (0.88, 0.92)]
    figures["expected_on_the_other_side"] = 0.008
    text = as_table([*rows, {"data": "jaw", "protocol": "P2", **figures}])
    assert "| jaw | 0.900 | 0.880 | 0.920 |" in text
    assert "| jaw | 0.900 | 0.550 | 0.690 | 1.00% | 50.0% | 50.0% | 50.0% | 31 | 90.0% | 0.80% | 0.70% |" in text


def test_blurs_and_noises_lie_between_the_calibrated_ones():
    known = Intervals((0.3, 0.5), (0.0, 0.02, 0.04), ((1, 1, 1), (1, 1, 1)), "jaws")
    assert settings_between(known) == [(0.8, 0.01), (0.8, 0.03)]
