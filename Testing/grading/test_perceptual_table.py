"""The checkerboard's measure, on pictures whose lattice is known."""

from __future__ import annotations

import cv2
import numpy as np

from grading.perceptual_table import as_table, checkerboard


def noise(shape=(128, 192), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_noise_without_a_lattice_stands_out_nowhere_however_smooth_it_is():
    for smooth in (0.0, 0.8):
        image = noise() if smooth == 0 else cv2.GaussianBlur(noise(), (0, 0), smooth)
        assert abs(checkerboard(image, 4)) < 2


def test_a_lattice_stands_out_the_more_the_stronger_it_is():
    rows, columns = np.indices((128, 192))
    found = []
    for strength in (0.1, 0.3, 1.0):
        lattice = strength * ((rows % 2 == 0) ^ (columns % 2 == 0))
        found.append(checkerboard(noise() + lattice, 4))
    assert found[0] < found[1] < found[2] and found[2] > 15
    other = checkerboard(noise() + 1.0 * (columns % 4 == 1), 4)
    assert other > 15


def test_models_that_cannot_be_trained_say_why():
    rows = [
        {"model": "vgg-ts", "why_not": "needs VGG16's weights"},
        {"model": "mse-nn", "minutes": 2.0, "measures": {"drawn slices": [30.0, 0.9, 28.0, 0.85, 0.4]}},
    ]
    text = as_table(rows)
    assert "| vgg-ts | not trained: needs VGG16's weights |" in text
    assert "| mse-nn | drawn slices | 30.00 | 28.00 | 0.900 | 0.850 | 0.4 | 2.0 |" in text
    assert len(text.splitlines()) == 4
