"""Procedural slices: every kind, the pool, and that no jaw is a phantom that models are measured with."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.train.data import drawn as procedural
from CBCTSuperResLib.train.data.drawn import (
    ALONE,
    KINDS,
    make_pool,
    training_slice,
)
from grading.cases import HELD_OUT


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_of_slice_is_finite_varied_and_in_float32(kind):
    first, second = (kind(np.random.default_rng(seed), 64, ALONE)[0] for seed in (0, 1))
    assert first.shape == (64, 64) and first.dtype == np.float32
    assert np.isfinite(first).all() and np.abs(first).max() < 5
    assert not np.array_equal(first, second)


def test_slices_cover_the_window():
    values = np.concatenate([training_slice(np.random.default_rng([1, n]), 64).ravel() for n in range(40)])
    assert np.all(np.histogram(np.clip(values, 0, 1), 8, (0, 1))[0] > 0.01 * values.size)


def test_the_pool_depends_on_the_seed_alone_and_is_drawn_once(tmp_path):
    pool = make_pool(tmp_path / "a.f16", 3, 32, seed=5)
    stamp = (tmp_path / "a.f16").stat().st_mtime_ns
    assert np.array_equal(pool, make_pool(tmp_path / "a.f16", 3, 32, seed=5))
    assert (tmp_path / "a.f16").stat().st_mtime_ns == stamp
    assert np.array_equal(pool, make_pool(tmp_path / "b.f16", 3, 32, seed=5))
    assert not np.array_equal(pool, make_pool(tmp_path / "c.f16", 3, 32, seed=6))


def test_a_jaw_of_the_phantoms_that_models_are_measured_with_is_never_drawn(monkeypatch):
    drawn = []

    class Jaw(procedural.JawSection):
        def __init__(self, seed, *arguments, **options):
            drawn.append(seed)
            super().__init__(seed, *arguments, **options)

    monkeypatch.setattr(procedural, "JawSection", Jaw)
    for seed in range(20):
        procedural.jaw(np.random.default_rng(seed), 16, procedural.ALONE)
    assert len(set(drawn)) == 20
    assert min(drawn) >= procedural.PHANTOM_SEEDS > max(seed for _, seed in HELD_OUT.values())
