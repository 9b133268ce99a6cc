"""Fit a small network to procedural slices: pixel and branch losses, nothing else.

    python -m CBCTSuperResLib.training.fit --config Resources/Configurations/light.json --out DIR

writes DIR/light.safetensors and DIR/log.jsonl. The same configuration and seed draw the same data; another processor or
number of threads adds in another order and changes the last digits.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import OptionError
from ..networks import build_network
from ..networks.blocks import gradient_map
from .data.degradation import Degradation
from .data.procedural import make_pool
from .recipes.initial import begin_as_interpolation


@dataclass(frozen=True)
class FitOptions:
    """What makes a training reproducible; "training" in the JSON file holds these names.

    Attributes
    ----------
    network, network_options : str, dict
        As in the registry.
    seed : int
    iterations : int
    batch, patch : int
        Images a step, and their edge in coarse pixels.
    pool, pool_size : int
        Procedural slices that are drawn before training, and their edge in fine pixels.
    learning_rate : float
        Of Adam; rises over `warm_up` steps, then falls along a cosine to a hundredth.
    warm_up : int
    branch_weight : float
        Of the gradient branch's L1 loss against 1 for the pixels'.
    ema : float
        Decay of the running mean of the weights, which is what is kept.
    bf16_share : float
        Share of the steps, from the beginning, that compute in bfloat16.
    degradation : dict
        Changes to the defaults of `Degradation`.
    """

    network: str = "unetspsr"
    network_options: dict = field(default_factory=lambda: {"nf": 16, "gc": 8, "nb": 4})
    seed: int = 6
    iterations: int = 4000
    batch: int = 16
    patch: int = 36
    pool: int = 4000
    pool_size: int = 144
    learning_rate: float = 1e-3
    warm_up: int = 100
    branch_weight: float = 0.2
    ema: float = 0.999
    bf16_share: float = 0.7
    degradation: dict = field(default_factory=dict)

    @staticmethod
    def from_json(values: dict) -> FitOptions:
        unknown = set(values) - {f.name for f in fields(FitOptions)}
        if unknown:
            raise OptionError(f"Unknown training options: {', '.join(sorted(unknown))}.")
        return FitOptions(**values)


def patches(pool: np.ndarray, options: FitOptions, margin: int, seed: int) -> Iterator[Tensor]:
    """Endless batches (N, 1, S, S) of fine patches with `margin`, flipped and turned; featureless ones are rare."""
    rng = np.random.default_rng(seed)
    edge = 2 * options.patch + 2 * margin
    while True:
        batch = np.empty((options.batch, 1, edge, edge), np.float32)
        for image in batch:
            for _ in range(3):
                n, y, x = rng.integers([len(pool), *(s - edge + 1 for s in pool.shape[1:])])
                patch = pool[n, y : y + edge, x : x + edge].astype(np.float32)
                if np.clip(patch, 0, 1).std() > 0.04:
                    break
            patch = np.rot90(patch, rng.integers(4))
            image[0] = patch[::-1] if rng.random() < 0.5 else patch
        yield torch.from_numpy(batch)


def losses(output: dict[str, Tensor], truth: Tensor) -> tuple[Tensor, Tensor]:
    """L1 of the image, and of the branch against the gradient map of the truth."""
    return (output["sr"] - truth).abs().mean(), (output["branch"] - gradient_map(truth)).abs().mean()


def learning_rate(step: int, options: FitOptions) -> float:
    if step < options.warm_up:
        return options.learning_rate * (step + 1) / options.warm_up
    done = (step - options.warm_up) / max(1, options.iterations - options.warm_up)
    return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def fit(options: FitOptions, folder: Path, report_every: int = 100) -> nn.Module:
    """Train a network and return it with the running mean of its weights, which `folder` keeps as it grows."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    network = build_network(options.network, **options.network_options).to(memory_format=torch.channels_last)
    begin_as_interpolation(network)
    mean = copy.deepcopy(network).eval().requires_grad_(False)
    degradation = _degradation(options)
    pool = make_pool(folder / f"slices-{options.seed}.f16", options.pool, options.pool_size, options.seed)
    batches = patches(pool, options, degradation.margin, options.seed)
    scanner_rng = np.random.default_rng([options.seed, 1])
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    started, recent = time.monotonic(), []
    for step in range(options.iterations):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        samples = [degradation(image, scanner_rng) for image in next(batches).numpy()]
        coarse, truth = (torch.from_numpy(np.stack(side)) for side in zip(*samples, strict=True))
        with torch.autocast("cpu", torch.bfloat16, enabled=step < options.bf16_share * options.iterations):
            output = network(coarse.to(memory_format=torch.channels_last))
        pixel, branch = losses({k: v.float() for k, v in output.items()}, truth)
        optimizer.zero_grad(set_to_none=True)
        (pixel + options.branch_weight * branch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        _follow(mean, network, min(options.ema, (1 + step) / (10 + step)))
        recent.append((pixel.item(), branch.item()))
        if (step + 1) % report_every == 0 or step + 1 == options.iterations:
            _report(folder, step + 1, np.mean(recent, 0), time.monotonic() - started)
            torch.save(mean.state_dict(), folder / "mean.pt")
            recent.clear()
    return mean


def _degradation(options: FitOptions) -> Degradation:
    return Degradation(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.degradation.items()})


@torch.no_grad()
def _follow(mean: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, current in zip(mean.parameters(), network.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)


def _report(folder: Path, step: int, means: np.ndarray, seconds: float) -> None:
    pixel, branch = (round(float(mean), 5) for mean in means)
    line = {"step": step, "pixel": pixel, "branch": branch, "seconds": round(seconds)}
    with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
    print(line, flush=True)


def training_facts(options: FitOptions, folder: Path) -> dict:
    """What a model card tells of a training: its data, its options, its last losses, its time."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "data": "procedural slices: jaws, cancellous bone, plates, shapes, texture, flat tissue; no scans",
        "degradation": asdict(_degradation(options)),
        "options": asdict(options),
        "last": json.loads(lines[-1]),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Fit a small network to procedural slices and write its model file.")
    parser.add_argument("--config", type=Path, required=True, help='JSON file: "training" options and the "card"')
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, the log and the slices")
    parser.add_argument("--scan", action="append", default=[], metavar="NAME=FILE", help="a real scan to measure on")
    given = parser.parse_args(arguments)
    config = json.loads(given.config.read_text(encoding="utf-8"))
    options = FitOptions.from_json(config["training"])
    network = fit(options, given.out)

    from .package import make_model

    scans = {name: Path(path) for name, _, path in (scan.partition("=") for scan in given.scan)}
    model = make_model(network, config["card"], training_facts(options, given.out), scans)
    print(model.save(given.out / f"{model.name}.safetensors"))


if __name__ == "__main__":
    main()
