"""ArSSR, and every other network of any real factor: volumes alone, coarse scans simulated, factors drawn.

Each sample is a block of a coarse scan whose factors, blur and noise are drawn, and a cube of voxels of the fine
volume, at whose places the network's output is compared (Wu et al., JBHI 2023, equation 3). The coarse scan is blurred
and averaged over each coarse voxel, cell by cell, unlike the original's, whose first and last voxels lie on those of
the fine volume.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ...core.errors import OptionError
from ...networks import NETWORKS
from ..data.batches import Batch
from ..data.block_scan import BlockScan
from ..data.blocks import open_blocks
from ..data.source import TrainingSource
from ..options import TrainingOptions
from ..step import Steps
from ..volumes import VolumeValidator
from .recipe import BETA2, DISTANCES, Recipe, Use, build_generator

LATTICE = (1.0, 2.0)  # wavelengths in voxels of the scan at which its grid would show


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
        with torch.device("meta"):
            self._spec = build_generator(options).describe()
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

    def open_validation(self) -> VolumeValidator | None:
        """PSNR and SSIM beside cubic interpolation at fixed factors; the best has the highest mean PSNR."""
        if not self._options.dataset("val"):
            return None
        lowest, highest = (pick(pair[n] for pair in self.scan.factors) for n, pick in ((0, max), (1, min)))
        factors = [factor for factor in self._train.val_scales if lowest <= factor <= highest] or [highest]
        return VolumeValidator(self._options, self.scan, factors)

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
        return {"G": build_generator(self._options)}

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Adam (Kingma and Ba, 2015)."""
        t = self._train
        settings = {"lr": t.lr_G, "betas": (t.beta1_G, BETA2), "weight_decay": t.weight_decay_G}
        return {"G": Adam(networks["G"].parameters(), **settings)}

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One update; logs the loss, "l_g_pix", and that of the lattice, "l_g_lattice", where it has a weight."""
        parts, total, lattice = len(run.batches), torch.zeros(()), torch.zeros(())
        with run.update("G") as update:
            for number, batch in enumerate(run.batches, start=1):
                with run.autocast():
                    found = self._found(run.networks["G"], batch)
                found = found.to(batch["HR"].dtype)
                pixel = DISTANCES[self._train.pixel_criterion](found, batch["HR"]) / parts
                total = total + pixel.detach().cpu()
                loss = pixel
                if weight := self._train.lattice_weight:
                    visible = weight * visible_lattice(found - batch["HR"], batch["positions"]) / parts
                    lattice, loss = lattice + visible.detach().cpu(), pixel + visible
                update.backward(loss, last=number == parts)
        return {"l_g_pix": total} | ({"l_g_lattice": lattice} if self._train.lattice_weight else {})

    def _found(self, network: nn.Module, batch: Batch) -> Tensor:
        """The network's output at the places of each sample; the blocks are encoded together."""
        told = {name: batch[name] for name in self._spec.conditions}
        features = network.encode(batch["LR"], told) if told else network.encode(batch["LR"])
        told = [{"steps": list(steps)} for steps in batch["steps"]] if "steps" in batch else [{}] * len(features)
        samples = zip(features.split(1), batch["positions"], told, strict=True)
        return torch.cat([network.decode(one, list(places), **known)["sr"] for one, places, known in samples])

    def card_facts(self) -> dict:
        """Its losses."""
        lattice = self._train.lattice_weight
        return {"losses": {"pixel": 1.0} | ({"lattice": lattice} if lattice else {}), "is_adversarial": False}


def visible_lattice(errors: Tensor, positions: Tensor) -> Tensor:
    """How much errors repeat with the voxels of the scan: their share in waves of one and of two voxels' length.

    Parameters
    ----------
    errors : Tensor, shape (N, 1, n, n, n)
    positions : Tensor, shape (N, 3, n)
        Where they lie, in voxels of the scan.

    Returns
    -------
    Tensor
        Mean over the samples; the power in the mean profiles along all axes, over that of the errors.
    """
    total, power = errors.new_zeros(len(errors)), errors.detach().square().mean((1, 2, 3, 4)) + 1e-12
    for axis in range(3):
        profile = errors.mean([1, *(n + 2 for n in range(3) if n != axis)])
        profile = profile - profile.mean(1, keepdim=True)
        for wavelength in LATTICE:
            angles = 2 * torch.pi / wavelength * positions[:, axis]
            total = total + (profile * angles.cos()).mean(1) ** 2 + (profile * angles.sin()).mean(1) ** 2
    return (total / power).mean()


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
