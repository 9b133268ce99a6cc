"""Training in small: procedural slices, where a network begins, and that a few steps help."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from CBCTSuperResLib.errors import OptionError
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.training import fit as training
from CBCTSuperResLib.training.data.procedural import KINDS, make_pool, training_slice

TINY = training.FitOptions(
    network_options={"nf": 4, "gc": 2, "nb": 4},
    iterations=10,
    batch=2,
    patch=12,
    pool=8,
    pool_size=48,
    warm_up=2,
    ema=0.5,
    bf16_share=0.2,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Arrays this small only wait for each other on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_of_slice_is_finite_varied_and_in_float32(kind):
    first, second = (kind(np.random.default_rng(seed), 64) for seed in (0, 1))
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


def test_patches_show_the_pool_flipped_and_turned():
    pool = np.arange(4 * 40 * 40, dtype=np.float32).reshape(4, 40, 40) / 6400
    batch = next(training.patches(pool, TINY, margin=6, seed=0))
    assert batch.shape == (2, 1, 36, 36)
    slopes = {tuple(np.sign([float(p[0, 1, 0] - p[0, 0, 0]), float(p[0, 0, 1] - p[0, 0, 0])])) for p in batch}
    assert all(abs(a) == abs(b) == 1 for a, b in slopes)


def test_a_new_network_begins_near_interpolation():
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=16, gc=8, nb=4)
    training.begin_as_interpolation(network)
    slices = np.stack([training_slice(np.random.default_rng([2, n]), 48) for n in range(6)])
    images = torch.from_numpy(slices)[:, None].clamp(0, 1)
    expected = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        found = network(images)["sr"]
    pairs = np.stack([found[..., 4:-4, 4:-4].flatten(), expected[..., 4:-4, 4:-4].flatten()])
    assert np.corrcoef(pairs)[0, 1] > 0.95


def test_the_learning_rate_rises_then_falls_to_a_hundredth():
    rates = [training.learning_rate(step, TINY) for step in range(TINY.iterations)]
    assert rates.index(max(rates)) in (1, 2) and max(rates) == TINY.learning_rate
    assert training.learning_rate(TINY.iterations, TINY) == pytest.approx(TINY.learning_rate / 100)


def test_a_few_steps_reduce_the_loss_and_repeat_under_the_seed(tmp_path):
    networks = [training.fit(TINY, tmp_path / name, report_every=5) for name in ("one", "two")]
    lines = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10]
    assert lines[1]["pixel"] + lines[1]["branch"] < 0.9 * (lines[0]["pixel"] + lines[0]["branch"])
    for one, two in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_an_unknown_option_is_named():
    with pytest.raises(OptionError, match="batchsize"):
        training.FitOptions.from_json({"batchsize": 3})
