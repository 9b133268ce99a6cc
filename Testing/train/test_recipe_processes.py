"""Two processes, each with its share of a batch in parts, train like one with all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from CBCTSuperResLib.train.ranks import Processes
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from CBCTSuperResLib.train.step import Precision, Steps
from forked import Ranks, only_where_forks_are
from recipe_harness import start
from spsr_training import pairs, training_options

COUNT, BATCH = 2, 4


def started(options: dict):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    run = start(build_recipe(training_options(**options)))
    for network in run.networks.values():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.data.mul_(5)
    return run


def train_share(file: Path, options: dict, micro_batches: int) -> None:
    """One process's part: three steps; the first process keeps what came of them."""
    with Processes.join(torch.device("cpu")) as together:
        run, precision, logs = started(options), Precision("float32", torch.device("cpu")), []
        steps = Steps(run.recipe.step, run.networks, run.optimizers, precision, together)
        for number, seed in enumerate((1, 3, 5), start=1):
            whole = pairs(BATCH, 8, seed)
            share = {name: images.chunk(COUNT)[together.rank].chunk(micro_batches) for name, images in whole.items()}
            batches = [{name: parts[n] for name, parts in share.items()} for n in range(micro_batches)]
            found = steps.make(number, batches)
            logs.append({name: together.mean(value.detach()).item() for name, value in found.items()})
        if together.first:
            states = {role: network.state_dict() for role, network in run.networks.items()}
            torch.save({"logs": logs, "states": states}, file)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch knows no processes")
@only_where_forks_are
@pytest.mark.parametrize(("gan_type", "micro_batches"), [("vanilla", 1), ("lsgan", 2)])
def test_two_processes_train_like_one(tmp_path, gan_type, micro_batches):
    options = {"gan_type": gan_type, "gan_weight": 0.5, "gradient_gan_weight": 0.5}
    whole = started(options)
    expected = [whole.step(pairs(BATCH, 8, seed)) for seed in (1, 3, 5)]
    assert Ranks(COUNT, lambda: train_share(tmp_path / "result.pt", options, micro_batches)).wait() == 0
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    for found, logs in zip(result["logs"], expected, strict=True):
        assert {name: found[name] for name in logs} == pytest.approx(logs, rel=1e-10, abs=1e-12)
    for role, network in whole.networks.items():
        for name, tensor in network.state_dict().items():
            assert torch.allclose(result["states"][role][name], tensor, rtol=0, atol=1e-10), f"{role}.{name}"
