"""Two processes, each with its share of a batch in parts, train like one with all of it."""

from __future__ import annotations

import os

import pytest
import torch
from CBCTSuperResLib.train.ranks import Processes
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from CBCTSuperResLib.train.step import Precision, Steps
from recipe_harness import start
from spsr_training import pairs, training_options
from torch import multiprocessing

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


def train_share(rank: int, folder: str, options: dict, micro_batches: int) -> None:
    """One process's part: three steps; the first process keeps what came of them."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(COUNT)}
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=COUNT)
    together, run = Processes(rank, COUNT), started(options)
    precision = Precision("float32", torch.device("cpu"))
    steps = Steps(run.recipe.step, run.networks, run.optimizers, precision, together)
    logs = []
    for number, seed in enumerate((1, 3, 5), start=1):
        share = {name: images.chunk(COUNT)[rank].chunk(micro_batches) for name, images in pairs(BATCH, 8, seed).items()}
        batches = [{name: parts[n] for name, parts in share.items()} for n in range(micro_batches)]
        found = steps.make(number, batches)
        logs.append({name: together.mean(value.detach()).item() for name, value in found.items()})
    if rank == 0:
        states = {role: network.state_dict() for role, network in run.networks.items()}
        torch.save({"logs": logs, "states": states}, f"{folder}/result.pt")
    together.wait_for_all()
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo that are still there have been seen to abort the interpreter's own end


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch knows no processes")
@pytest.mark.parametrize(("gan_type", "micro_batches"), [("vanilla", 1), ("lsgan", 2)])
def test_two_processes_train_like_one(tmp_path, gan_type, micro_batches):
    options = {"gan_type": gan_type, "gan_weight": 0.5, "gradient_gan_weight": 0.5}
    whole = started(options)
    expected = [whole.step(pairs(BATCH, 8, seed)) for seed in (1, 3, 5)]
    multiprocessing.spawn(train_share, (str(tmp_path), options, micro_batches), COUNT)
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    for found, logs in zip(result["logs"], expected, strict=True):
        assert {name: found[name] for name in logs} == pytest.approx(logs, rel=1e-10, abs=1e-12)
    for role, network in whole.networks.items():
        for name, tensor in network.state_dict().items():
            assert torch.allclose(result["states"][role][name], tensor, rtol=0, atol=1e-10), f"{role}.{name}"
