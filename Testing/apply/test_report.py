"""Warnings that go with a result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.networks.spec import NetworkSpec

CARD = ModelCard("m", NetworkSpec("unetspsr"), voxel_size_mm=(0.1, 0.4))


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ((0.2, 0.2, 0.2), []),
        ((0.3, 0.3, 0.1), []),
        ((0.05, 0.05, 0.05), ["outside the model's range"]),
        ((0.5, 0.5, 0.5), ["outside the model's range"]),
        ((0.2, 0.3, 0.3), ["not square"]),
        ((0.2, 0.2, 1.0), ["1 mm apart"]),
    ],
)
def test_what_speaks_against_a_model_is_said_and_nothing_else(spacing, words):
    found = make_plan(Grid((4, 3, 2), spacing), np.dtype("int16"), CARD).warnings
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_distant_slices_are_no_matter_where_all_axes_are_enlarged():
    blocks = replace(CARD, spec=NetworkSpec("blocks", dimensions=3, scale=(2, 2, 2)))
    assert not make_plan(Grid((4, 3, 2), (0.2, 0.2, 1.0)), np.dtype("int16"), blocks).warnings
