"""ArSSR, and every other network of any real factor: volumes alone, coarse scans simulated, factors drawn.

Each sample is a block of a coarse scan whose factors, blur and noise are drawn, and a cube of voxels of the fine
volume, at whose places the network's output is compared (Wu et al., JBHI 2023, equation 3). The coarse scan is blurred
and averaged over each coarse voxel, cell by cell, unlike the original's, whose first and last voxels lie on those of
the fine volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from ...acquisition.scanner import ALL_AXES, correlated_noise
from ...core.errors import InputError, OptionError
from ...core.interpolate import cubic
from ...io.pictures import distinct
from ...measure.fidelity import psnr
from ...networks import NETWORKS, build_network
from ..data.batches import Batch
from ..data.blocks import NOISE_SMOOTH, BlockScan, UnitVolume, drawn_cubes, open_blocks, read_volumes
from ..data.source import TrainingSource
from ..options import TrainingOptions
from ..step import Steps
from ..validation import Enlarger, means, undisturbed, write_rows
from .recipe import Recipe, Use

BETA2 = 0.999
LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}
SMALLEST = 4  # voxels of a coarse block that is worth measuring


class ArSSRRecipe(Recipe):
    """Network, loss and step of "model": "arssr".

    Parameters
    ----------
    options : TrainingOptions
    weights : bool
        There is nothing that needs any.
    """

    def __init__(self, options: TrainingOptions, weights: bool = True) -> None:
        self._options, self._train = options, options.train
        block = options.network_G
        with torch.device("meta"):
            self._spec = _built(block.network, block.options).describe()
        ranges = [_within(offered, self._train.scale_range) for offered in self._spec.scale_range]
        train = self._train
        self.scan = BlockScan(
            tuple(ranges),
            train.blur,
            train.noise,
            train.scale_per_axis,
            train.scale_mix,
            train.noise_smooth,
            train.told_error,
        )
        dataset = options.datasets.get("train")
        self._edge = dataset.HR_size // options.scale if dataset else 0
        along = int(self._train.ss ** (1 / 3) + 1e-9)
        self._shape = (self._train.block_slices or self._edge, self._edge, self._edge)
        smallest = min(n * low for n, (low, _) in zip(self._shape, ranges, strict=True))
        self._targets = max(1, min(along, int(smallest + 1e-9)))

    def open_source(self) -> TrainingSource:
        """Blocks of coarse scans that are simulated from the volumes."""
        dataset = self._options.dataset("train")
        train = self._train
        source = open_blocks(dataset, self._options, self.scan, self._targets, train.block_slices, train.spread)
        if self._targets**3 < self._train.ss // 2:
            source.warnings.append(
                f"{self._targets**3} voxels of each sample are compared, not the {self._train.ss} of train.ss: a block "
                f"of {self._edge} LR voxels has no more at the smallest factor (datasets.train.HR_size / scale)."
            )
        return source

    def open_validation(self) -> BlockValidation | None:
        """PSNR beside cubic interpolation at fixed factors; the best has the highest mean."""
        dataset = self._options.dataset("val")
        return BlockValidation(self._options, self.scan) if dataset else None

    def example_batch(self, images: int) -> Batch:
        """Noise of the size of the blocks, with factors in the middle of their ranges."""
        places = torch.arange(self._targets) / (sum(self.scan.factors[0]) / 2)
        batch = {
            "LR": torch.rand(images, 1, *self._shape),
            "HR": torch.rand(images, 1, *[self._targets] * 3),
            "positions": places.expand(images, 3, -1).contiguous(),
            "blur": torch.rand(images, 3),
            "noise": torch.rand(images, 1),
        }
        return batch | ({"steps": torch.full((images, 3), float(places[1]))} if self._train.spread else {})

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """The network, forward and backward."""
        block = self._options.network_G
        path, shape = NETWORKS[block.network].path, (1, *self._shape)
        return {"G": Use(path, block.options, shape, passes=3, targets=(self._targets,) * 3)}

    def build(self) -> dict[str, nn.Module]:
        """A new network with its initial weights."""
        block = self._options.network_G
        return {"G": _built(block.network, block.options)}

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Adam (Kingma and Ba, 2015)."""
        t = self._train
        settings = {"lr": t.lr_G, "betas": (t.beta1_G, BETA2), "weight_decay": t.weight_decay_G}
        return {"G": Adam(networks["G"].parameters(), **settings)}

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One update; logs the loss, "l_g_pix"."""
        parts, total = len(run.batches), torch.zeros(())
        with run.update("G") as update:
            for number, batch in enumerate(run.batches, start=1):
                with run.autocast():
                    found = self._found(run.networks["G"], batch)
                loss = LOSSES[self._train.pixel_criterion](found.to(batch["HR"].dtype), batch["HR"]) / parts
                update.backward(loss, last=number == parts)
                total = total + loss.detach().cpu()
        return {"l_g_pix": total}

    def _found(self, network: nn.Module, batch: Batch) -> Tensor:
        """The network's output at the places of each sample; the blocks are encoded together."""
        told = {name: batch[name] for name in self._spec.conditions}
        features = network.encode(batch["LR"], told) if told else network.encode(batch["LR"])
        told = [{"steps": list(steps)} for steps in batch["steps"]] if "steps" in batch else [{}] * len(features)
        samples = zip(features.split(1), batch["positions"], told, strict=True)
        return torch.cat([network.decode(one, list(places), **known)["sr"] for one, places, known in samples])

    def card_facts(self) -> dict:
        """Its only loss."""
        return {"losses": {"pixel": 1.0}, "is_adversarial": False}


class BlockValidation:
    """PSNR of the middle of each val volume at fixed factors, of the network and of cubic interpolation.

    Blur and noise are those in the middle of the ranges that training draws from.
    """

    def __init__(self, options: TrainingOptions, scan: BlockScan) -> None:
        train = options.train
        dataset = options.dataset("val")
        volumes = [found["HR"] for found in read_volumes(dataset)[0]]
        volumes += drawn_cubes(dataset, options, train.val_size)
        self._scan, self._edge = scan, train.val_size
        lowest, highest = (pick(pair[n] for pair in scan.factors) for n, pick in ((0, max), (1, min)))
        self._scales = [factor for factor in train.val_scales if lowest <= factor <= highest] or [highest]
        self._blur, self._noise = [sum(scan.blur) / len(scan.blur)] * 3, sum(scan.noise) / 2
        self._volumes = volumes[: options.logger.val_slices]
        smallest = min(min(volume.voxels.shape) for volume in self._volumes)
        if min(smallest, self._edge) < SMALLEST * max(self._scales):
            raise InputError(
                f"Validation at a factor of {max(self._scales):g} needs blocks of {SMALLEST * max(self._scales):g} "
                f"voxels, and {smallest} are there at most (train.val_size is {self._edge}).",
                "Give larger val volumes, a larger train.val_size or smaller train.val_scales.",
            )
        skipped = len(volumes) - len(self._volumes)
        self.warnings = [f"{skipped} val volumes are not measured (logger.val_slices)."] * bool(skipped)
        self._cubic: dict[tuple[int, float], float] = {}

    def run(self, networks: Mapping[str, nn.Module], step: int, folder: Path | None = None) -> dict[str, float]:
        """As `Validation.run`: "psnr" and "psnr_cubic" over all, and for each factor, such as "psnr_x2.5"."""
        rows: dict[str, dict[str, float]] = {}
        of_factor: dict[float, list[dict[str, float]]] = {factor: [] for factor in self._scales}
        with undisturbed():
            enlarge = Enlarger(networks["G"], str(next(networks["G"].parameters()).device))
            for number, volume in enumerate(self._volumes):
                for factor in self._scales:
                    low, high, scale = self._pair(number, volume, factor)
                    found = enlarge(low, scale=scale, blur=self._blur, noise=self._noise)
                    if (number, factor) not in self._cubic:
                        self._cubic[number, factor] = _psnr(_cubic(low, high.shape), high)
                    row = {"psnr": _psnr(found, high), "psnr_cubic": self._cubic[number, factor]}
                    rows[distinct(f"{volume.name} x{factor:g}", rows)] = row
                    of_factor[factor].append(row)
        if folder:
            write_rows(rows, folder / f"{step}.csv")
        results = means([*rows.values()])
        for factor, measured in of_factor.items():
            results |= {f"{name}_x{factor:g}": value for name, value in means(measured).items()}
        return {**results, "images": len(self._volumes)}

    def _pair(
        self, number: int, volume: UnitVolume, factor: float
    ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
        """LR, HR, and the factors between them, which are those of their whole numbers of voxels."""
        counts = [min(self._edge, length) for length in volume.voxels.shape]
        starts = [(length - count) // 2 for length, count in zip(volume.voxels.shape, counts, strict=True)]
        outputs = [max(1, round(count / factor)) for count in counts]
        scale = tuple(count / output for count, output in zip(counts, outputs, strict=True))
        margins = self._scan.margins(scale)
        fine = volume.cut(
            volume.voxels,
            [start - margin for start, margin in zip(starts, margins, strict=True)],
            [count + 2 * margin for count, margin in zip(counts, margins, strict=True)],
        )
        low = self._scan.coarse(fine, outputs, scale, self._blur)
        low = np.clip(low + correlated_noise(low.shape, self._noise, NOISE_SMOOTH, ALL_AXES, number), 0, 1)
        inner = tuple(slice(margin, margin + count) for margin, count in zip(margins, counts, strict=True))
        return low, np.clip(fine[inner], 0, 1), scale

    def close(self) -> None:
        """Nothing is open."""


def _built(name: str, options: object) -> nn.Module:
    try:
        return build_network(name, **asdict(options))
    except ValueError as error:
        raise OptionError(f"network_G: {error}") from None


def _within(offered: tuple[float, float], asked: tuple[float, float] | None) -> tuple[float, float]:
    """What of the network's range of factors is drawn from.

    Raises
    ------
    OptionError
        If the network does not offer what is asked for.
    """
    if asked is None:
        return offered
    if not offered[0] <= asked[0] <= asked[1] <= offered[1]:
        raise OptionError(
            f"train.scale_range is {asked[0]:g} to {asked[1]:g}, and the network offers {offered[0]:g} to "
            f"{offered[1]:g}.",
            "Choose a range within that, or other network_G.factors.",
        )
    return asked


def _cubic(low: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    positions = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(low.shape, shape, strict=True)]
    return cubic(low, positions)


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return psnr(np.clip(np.asarray(image, np.float64), 0, 1), np.asarray(truth, np.float64))
