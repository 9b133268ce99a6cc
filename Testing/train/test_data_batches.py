"""Endless batches: the same samples whatever workers, processes, micro-batches or the step begun from."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.train.data.batches import Batches
from CBCTSuperResLib.train.data.source import open_source
from CBCTSuperResLib.train.options_file import read_options


class Numbers:
    """A source whose samples tell which image they are and what was drawn."""

    def __init__(self, count: int) -> None:
        self.names = [str(n) for n in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, images, draws):
        return {"image": torch.tensor(images), "draw": torch.tensor([rng.random() for rng in draws])}


class Failing(Numbers):
    def batch(self, images, draws):
        raise InputError("slice7.tif is damaged.", "Copy it again.")


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    train = {"mode": "HR", "procedural": 5, "procedural_seed": 3, "HR_size": 24, "batch_size": 4}
    train |= {"degradation": "physical"}
    root = str(tmp_path_factory.mktemp("root"))
    options = read_options({"name": "t", "scale": 2, "path": {"root": root}, "datasets": {"train": train}})
    return open_source(options.dataset("train"), options)


def whole(micro_batches) -> dict:
    return {name: torch.cat([batch[name] for batch in micro_batches]) for name in micro_batches[0]}


def steps(source, count: int, first: int = 1, **how) -> list[dict]:
    with Batches(source, 4, seed=9, **how) as batches:
        batches.start(first)
        return [whole(next(batches)) for _ in range(count)]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("how", [{"workers": 3}, {"workers": 2, "micro_batch": 1}, {"micro_batch": 2}])
def test_workers_and_micro_batches_change_no_bit(slices, how):
    assert all(same(a, b) for a, b in zip(steps(slices, 6), steps(slices, 6, **how), strict=True))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch_and_change_no_bit_of_it(slices, processes):
    shares = [steps(slices, 3, rank=rank, processes=processes, workers=1) for rank in range(processes)]
    for expected, *parts in zip(steps(slices, 3), *shares, strict=True):
        assert same(expected, whole(parts))


def test_a_resumed_run_sees_what_the_uninterrupted_one_would_have(slices):
    assert all(same(a, b) for a, b in zip(steps(slices, 7)[4:], steps(slices, 3, first=5, workers=2), strict=True))


def test_the_same_step_can_be_had_again(slices):
    batches = Batches(slices, 4, seed=9)
    assert same(whole(batches.at(3)), steps(slices, 3)[2])


def test_another_seed_gives_other_samples(slices):
    assert not same(whole(Batches(slices, 4, seed=9).at(1)), whole(Batches(slices, 4, seed=10).at(1)))


def test_every_epoch_shows_every_image_once_in_another_order():
    seen = torch.cat([step["image"] for step in steps(Numbers(6), 9)]).reshape(6, 6)
    assert all(sorted(epoch) == list(range(6)) for epoch in seen.tolist())
    assert len({tuple(epoch) for epoch in seen.tolist()}) > 3


def test_without_shuffling_the_order_is_that_of_the_source():
    seen = torch.cat([step["image"] for step in steps(Numbers(3), 3, shuffle=False)])
    assert seen.tolist() == [0, 1, 2] * 4


def test_no_two_samples_draw_the_same_numbers():
    drawn = torch.cat([step["draw"] for step in steps(Numbers(3), 50)])
    assert len(set(drawn.tolist())) == 200


def test_an_error_in_a_worker_reaches_the_caller_and_no_thread_stays():
    before = threading.active_count()
    with pytest.raises(InputError, match="slice7"), Batches(Failing(3), 2, seed=0, workers=2) as batches:
        next(batches.start())
    assert threading.active_count() == before


def test_closing_ends_the_threads_while_work_is_queued():
    class Slow(Numbers):
        def batch(self, images, draws):
            time.sleep(0.01)
            return super().batch(images, draws)

    before = threading.active_count()
    batches = Batches(Slow(3), 2, seed=0, workers=2, ahead=50).start()
    next(batches)
    assert threading.active_count() == before + 2
    batches.close()
    assert threading.active_count() == before


def test_never_more_steps_are_prepared_than_said():
    made = []

    class Counting(Numbers):
        def batch(self, images, draws):
            made.append(len(images))
            return super().batch(images, draws)

    batches = Batches(Counting(3), 2, seed=0, workers=1, ahead=3).start()
    for _ in range(4):
        next(batches)
    batches.close()
    assert 4 <= len(made) <= 4 + 3


def test_numbers_that_do_not_divide_are_refused_in_words():
    with pytest.raises(OptionError, match="batch_size is 4, which 3 processes cannot share"):
        Batches(Numbers(3), 4, seed=0, processes=3)
    with pytest.raises(OptionError, match="micro-batches of 3"):
        Batches(Numbers(3), 4, seed=0, micro_batch=3)


def test_the_seeds_of_order_and_draws_stay_what_they_are():
    """Others would let a run that an older version began see other samples after it was resumed."""
    order = np.random.default_rng([9, 0, 0]).permutation(8)
    first, second = steps(Numbers(8), 2)
    assert first["image"].tolist() + second["image"].tolist() == order.tolist()
    assert second["draw"].tolist() == pytest.approx([np.random.default_rng([9, 1, n]).random() for n in range(4, 8)])
