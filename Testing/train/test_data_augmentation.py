"""Flips, quarter turns and changes of contrast: the same for LR and HR, and as likely as they should be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from CBCTSuperResLib.train.data.patches import Augmentation, Change

SQUARE = np.arange(9.0).reshape(1, 3, 3)


def positions(augmentation: Augmentation, count: int) -> Counter:
    rng = np.random.default_rng(0)
    return Counter(augmentation.draw(rng).turned(SQUARE).tobytes() for _ in range(count))


@pytest.mark.parametrize(("use_flip", "use_rot", "expected"), [(True, True, 8), (False, True, 4), (True, False, 2)])
def test_all_positions_of_a_square_are_equally_likely(use_flip, use_rot, expected):
    found = positions(Augmentation(use_flip, use_rot), 4000)
    assert len(found) == expected
    assert all(abs(count - 4000 / expected) < 5 * np.sqrt(4000 / expected) for count in found.values())


def test_nothing_changes_when_all_is_off():
    change = Augmentation().draw(np.random.default_rng(0))
    image = np.array([[[-0.5, 1.5]]], np.float32)
    assert change.turned(image) is image and change.recontrasted(image) is image


@pytest.mark.parametrize("number", range(8))
def test_a_turn_moves_coarse_and_fine_pixels_alike(number):
    change = Change(flips=tuple(bool(number >> bit & 1) for bit in range(3)))
    coarse = np.arange(16.0).reshape(1, 4, 4)
    fine = coarse.repeat(2, -1).repeat(2, -2)
    assert np.array_equal(change.turned(fine)[..., ::2, ::2], change.turned(coarse))


def test_contrast_brightness_and_gamma_follow_their_formula():
    x = np.linspace(0, 1, 11, dtype=np.float32)[None, None]
    changed = Change(contrast=1.2, brightness=-0.05, gamma=0.9).recontrasted(x)
    assert changed.dtype == np.float32
    assert np.allclose(changed, np.clip((x - 0.5) * 1.2 + 0.5 - 0.05, 0, 1) ** 0.9, atol=1e-6)


def test_each_change_of_contrast_comes_to_half_of_the_pairs_and_stays_in_its_range():
    augmentation = Augmentation(use_contrast=True)
    rng = np.random.default_rng(1)
    drawn = np.array([(c.contrast, c.brightness, c.gamma) for c in (augmentation.draw(rng) for _ in range(4000))])
    changed = drawn != (1, 0, 1)
    assert np.allclose(changed.mean(0), 0.5, atol=0.03)
    assert np.allclose(np.corrcoef(changed.T), np.eye(3), atol=0.06)
    for values, (low, high) in zip(drawn.T, [(0.8, 1.2), (-0.1, 0.1), (0.8, 1.25)], strict=True):
        assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high
    gamma = drawn[changed[:, 2], 2]
    assert np.median(gamma) == pytest.approx(1, abs=0.02)


def test_switches_do_not_shift_the_draws_that_follow():
    generators = [np.random.default_rng(3) for _ in range(2)]
    for rng, augmentation in zip(generators, (Augmentation(), Augmentation(True, True, True)), strict=True):
        augmentation.draw(rng)
    assert generators[0].random() == generators[1].random()
