"""A model adapted to one scan: it goes on learning from the scan's own fine directions, and is kept only if that helps.

Slices are thicker than pixels are wide, so the scan itself shows, along rows and columns, what is missing across
slices: made as coarse along them as its slices are, it gives pairs of coarse and fine (Zhao et al., SMORE, IEEE TMI
2021). A fifth of the scan is never learned from; there the adapted model is compared with the old one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..apply.plan import make_plan
from ..core.errors import Cancelled, InputError, OptionError
from ..core.interpolate import cubic
from ..core.options import Options
from ..io.volume import Volume
from ..measure.fidelity import psnr
from ..models.model import Model
from .data.block_scan import BlockScan
from .data.blocks import Blocks, SimulatedBlocks, UnitVolume
from .data.patches import Augmentation
from .validation import Enlarger

LEAST = 1.25  # how much thicker than pixels slices must be
EDGES = (16, 24)  # slices, and rows and columns, of a block, in voxels of the coarse scan
SMALLEST = 6
TARGETS = 16
BATCH = 4
LEARNING_RATE = 1e-4
LARGEST_GRADIENT = 0.5
HELD_OUT = 5  # one part in so many
MEASURED = 64  # voxels along each axis of what is measured, at most
BETTER = 0.02  # dB that are a gain
USUAL_STEPS = 200


@dataclass(frozen=True)
class Adaptation:
    """What became of a model.

    Attributes
    ----------
    model : Model
        The adapted one.
    before, after, cubic : float
        PSNR in dB in the part of the scan that was not learned from, with the old weights, the new ones and by cubic
        interpolation.
    """

    model: Model
    before: float
    after: float
    cubic: float

    @property
    def is_better(self) -> bool:
        """Whether the new weights are worth keeping."""
        return self.after >= self.before + BETTER

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        found = (
            f"In the part of the scan that was not learned from: {self.before:.2f} dB before, {self.after:.2f} dB "
            f"after (cubic interpolation {self.cubic:.2f} dB)."
        )
        if not self.is_better:
            return found + " That is no gain, so the old weights stay and nothing is written."
        return found + (" Cubic interpolation is closer still." if self.after < self.cubic else "")


def adapt(
    volume: Volume,
    model: Model,
    name: str,
    steps: int = USUAL_STEPS,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Adaptation:
    """Let a model of any factor go on learning from one scan with thick slices.

    Parameters
    ----------
    volume : Volume
        Stays as it is.
    model : Model
        Stays as it is.
    name : str
        Of the adapted model.
    steps : int
    progress : callable (fraction, message), optional
    cancelled : callable, optional
        Asked before every step.

    Raises
    ------
    OptionError
        If the model is not of any real factor.
    InputError
        If the scan's slices are hardly thicker than its pixels, or it is too small.
    Cancelled
    """
    progress = progress or (lambda fraction, message: None)
    spec = model.spec
    if spec.scale_range is None or spec.dimensions != 3:
        raise OptionError(
            f"The model {model.name} has a fixed factor, so it cannot be adapted to a scan.",
            "Choose one of any factor.",
        )
    spacing = volume.grid.spacing[::-1]
    thick, factor = int(np.argmax(spacing)), max(spacing) / min(spacing)
    if factor < LEAST:
        raise InputError(
            f"The voxels are {factor:.2f} times as long as wide: the scan has no direction that is much finer than "
            "another and could teach a model.",
            f"Adapting is for slices that are at least {LEAST} times as thick as pixels are wide.",
        )
    factor = min(factor, spec.scale_range[0][1])
    progress(0.0, "Looking at the scan")
    plan = make_plan(volume.grid, volume.voxels.dtype, model.card, Options()).with_scan(volume)
    noise = plan.conditions.told_noise
    learned, held_out = _parts(plan.choice.window.to_unit(volume.voxels), thick)
    slices = min(EDGES[0], min(int(len(part) / factor) for part in learned))
    edge = min(EDGES[1], *(n for part in learned for n in part.shape[1:])) // spec.multiple * spec.multiple
    if min(slices, edge) < SMALLEST or len(held_out) < SMALLEST * factor:
        size = " x ".join(map(str, volume.grid.size))
        raise InputError(f"The scan has {size} voxels: too few to learn from and to measure with.", "Use a larger.")
    # the mean of several fine voxels is calmer than a scan would be: so much noise is missing
    missing = noise * np.sqrt(1 - 1 / factor)
    scan = BlockScan(((factor, factor), (1.0, 1.0), (1.0, 1.0)), (0.0, 0.0), (missing, missing))
    volumes = [UnitVolume("scan", part, None) for part in learned]
    source = SimulatedBlocks(volumes, Blocks((slices, edge, edge)), scan, Augmentation(use_flip=True), TARGETS)

    network = copy.deepcopy(model.network).float().train().requires_grad_(True)
    before, cubic_psnr = _measured(model.network, held_out, factor, noise)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for step in range(steps):
        if cancelled():
            raise Cancelled
        batch = source.batch([step % 2] * BATCH, [np.random.default_rng(rng.integers(2**31)) for _ in range(BATCH)])
        told = {"blur": torch.zeros(BATCH, 3), "noise": torch.full((BATCH, 1), noise)}
        told = {condition: told[condition] for condition in spec.conditions}
        features = network.encode(batch["LR"], told) if told else network.encode(batch["LR"])
        samples = zip(features.split(1), batch["positions"], strict=True)
        found = torch.cat([network.decode(one, list(places))["sr"] for one, places in samples])
        optimizer.zero_grad()
        F.l1_loss(found, batch["HR"]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        optimizer.step()
        progress((step + 1) / (steps + 1), f"Step {step + 1} of {steps}")
    network.eval().requires_grad_(False)
    after, _ = _measured(network, held_out, factor, noise)
    facts = {"model": model.name, "steps": steps, "psnr_before": round(before, 2), "psnr_after": round(after, 2)}
    card = replace(
        model.card,
        name=name,
        title=f"{model.card.title or model.name}, adapted to one scan",
        training={**model.card.training, "adapted": facts},
        results=[],  # those of the card are of other weights
        path=None,
    )
    return Adaptation(Model(network, card), before, after, cubic_psnr)


def _parts(unit: np.ndarray, thick: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Two views of the scan to learn from, each with a fine axis first, and one to measure with: the end of an axis."""
    first, last = (axis for axis in range(3) if axis != thick)
    kept = unit.shape[last] - unit.shape[last] // HELD_OUT
    learned, held_out = (unit.take(part, last) for part in (range(kept), range(kept, unit.shape[last])))
    return [np.moveaxis(learned, axis, 0) for axis in (first, last)], np.moveaxis(held_out, first, 0)


def _measured(network: nn.Module, fine: np.ndarray, factor: float, noise: float) -> tuple[float, float]:
    """PSNR of a network, and of cubic interpolation, on the middle of a part of the scan, made coarse along its first
    axis."""
    starts = [max(0, (n - MEASURED) // 2) for n in fine.shape]
    fine = fine[tuple(slice(start, start + MEASURED) for start in starts)]
    count = int(len(fine) / factor)
    length = round(count * factor)
    fine, scan = fine[:length], BlockScan(((factor, factor), (1.0, 1.0), (1.0, 1.0)), (0.0, 0.0))
    exact = length / count
    margins = scan.margins([exact, 1.0, 1.0])
    wide = np.pad(fine, [(margin, margin) for margin in margins], mode="symmetric")
    coarse = scan.coarse(wide, [count, *fine.shape[1:]], [exact, 1.0, 1.0], [0.0] * 3)
    found = Enlarger(network)(coarse, scale=[exact, 1.0, 1.0], blur=[0.0] * 3, noise=noise)
    places = (np.arange(length) + 0.5) / exact - 0.5
    return tuple(psnr(np.clip(image, 0, 1), fine) for image in (found, cubic(coarse, [places, None, None])))
