"""3D SRGAN: squares, differences of gradients, and a discriminator by least squares, on blocks of volumes.

Sánchez and Vilaplana, MIDL 2018, with three things put right: labels are what they were meant to be (the public code
calls everything real), the losses are means, so that their weights mean the same for every size of block, and learning
rates fall as the schedule says. One step goes: the generator's update, against the discriminator as it is; then the
discriminator's, with the volumes from before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ...networks import DISCRIMINATORS, NETWORKS, build_network
from ..data.batches import Batch
from ..data.block_scan import BlockScan
from ..data.blocks import open_blocks
from ..data.source import TrainingSource
from ..options import TrainingOptions
from ..step import Steps
from ..volumes import VolumeValidator
from .gan import precise
from .recipe import BETA2, DISTANCES, Recipe, Use, build_generator, refuse_parts


class Labels(NamedTuple):
    """What the discriminator should say in one step of real and of fake volumes, and what the generator wants of it."""

    real: float
    fake: float
    wanted: float


class SRGAN3DRecipe(Recipe):
    """Networks, losses and step of "model": "srgan3d".

    Without a weight of the adversarial loss there is no discriminator; until `train.warmup_iters` it is untouched.

    Parameters
    ----------
    options : TrainingOptions
    weights : bool
        There is nothing that needs any.
    """

    def __init__(self, options: TrainingOptions, weights: bool = True) -> None:
        self._options, self._train = options, options.train
        self._has_judge = options.train.gan_weight > 0

    @property
    def scan(self) -> BlockScan:
        """How coarse scans are simulated in mode HR."""
        factor = float(self._options.scale)
        return BlockScan(
            ((factor, factor),) * 3, self._train.blur, self._train.noise, noise_smooth=self._train.noise_smooth
        )

    @property
    def may_be_in_parts(self) -> bool:
        """Batch norm needs the whole batch at once."""
        g, d = self._options.network_G.options, self._options.network_D.options
        return not (getattr(g, "has_batch_norm", False) or (self._has_judge and d.has_batch_norm))

    def check(self, processes: int, device: str, micro_batches: int = 1) -> None:
        """Batch norm is not the same in parts, nor in several processes on the CPU."""
        if not self.may_be_in_parts:
            instead = "batch_norm false in network_G and network_D"
            refuse_parts("The network", instead, processes, device, micro_batches)

    def open_source(self) -> TrainingSource:
        """Blocks of pairs of volumes, or of volumes whose coarse scan is simulated."""
        return open_blocks(self._options.dataset("train"), self._options, self.scan)

    def open_validation(self) -> VolumeValidator | None:
        """PSNR and SSIM beside cubic interpolation in the middle of each val volume; the best has the highest PSNR."""
        dataset = self._options.dataset("val")
        return VolumeValidator(self._options, self.scan) if dataset else None

    def example_batch(self, images: int) -> Batch:
        """Noise of the size of the blocks."""
        return {role: torch.rand(images, *shape) for role, shape in self._shapes.items()}

    @property
    def _shapes(self) -> dict[str, tuple[int, int, int, int]]:
        fine = self._options.datasets["train"].block_shape
        return {"LR": (1, *(length // self._options.scale for length in fine)), "HR": (1, *fine)}

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """Generator: forward, backward. Discriminator: that in its update, twice that in its own."""
        g, d = self._options.network_G, self._options.network_D
        uses = {"G": Use(NETWORKS[g.network].path, g.options, self._shapes["LR"], passes=3)}
        if self._has_judge and not in_warm_up:
            uses["D"] = Use(DISCRIMINATORS[d.network].path, d.options, self._shapes["HR"], passes=9)
        return uses

    def build(self) -> dict[str, nn.Module]:
        """New networks with their initial weights: "G" and, with an adversarial loss, "D"."""
        networks, d = {"G": build_generator(self._options)}, self._options.network_D
        if self._has_judge:
            networks["D"] = build_network(d.network, **asdict(d.options))
        return networks

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Adam (Kingma and Ba, 2015) for each network."""
        t = self._train
        settings = {
            "G": {"lr": t.lr_G, "betas": (t.beta1_G, BETA2), "weight_decay": t.weight_decay_G},
            "D": {"lr": t.lr_D, "betas": (t.beta1_D, BETA2), "weight_decay": t.weight_decay_D},
        }
        return {role: Adam(network.parameters(), **settings[role]) for role, network in networks.items()}

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One iteration.

        Logs the losses with their weights: "l_g_pix", "l_g_grad_diff", "l_g_gan" and "l_g_total", their sum; "l_d_real"
        and "l_d_fake"; further "D_real" and "D_fake", the mean outputs.
        """
        self.check(1, run.batches[0]["LR"].device.type, len(run.batches))  # the loop may have made them smaller
        is_judged = self._has_judge and run.number > self._train.warmup_iters
        labels = self._labels() if is_judged else None
        logs, fakes = self._update_generator(run, labels)
        if labels:
            logs |= self._update_discriminator(run, fakes, labels)
        return logs

    def _labels(self) -> Labels:
        """Drawn anew in each step: smooth labels, exchanged now and then for the discriminator alone."""
        t, draws = self._train, torch.rand(4).tolist()
        real, fake, wanted = (
            low + (high - low) * place
            for (low, high), place in zip((t.real_label, t.fake_label, t.real_label), draws, strict=False)
        )
        return Labels(fake, real, wanted) if draws[3] < t.swapped_labels else Labels(real, fake, wanted)

    def _update_generator(self, run: Steps, labels: Labels | None) -> tuple[dict[str, Tensor], list[Tensor]]:
        t, logs, fakes, parts = self._train, {}, [], len(run.batches)
        with run.update("G") as update:
            for number, batch in enumerate(run.batches, start=1):
                with run.autocast():
                    sr = run.networks["G"](batch["LR"])["sr"]
                sr, hr, terms = precise(sr), batch["HR"], {}
                if t.pixel_weight > 0:
                    terms["l_g_pix"] = t.pixel_weight * DISTANCES[t.pixel_criterion](sr, hr)
                if t.gradient_difference_weight > 0:
                    terms["l_g_grad_diff"] = t.gradient_difference_weight * gradient_difference(sr, hr)
                if labels:
                    terms["l_g_gan"] = t.gan_weight * self._distance(run, sr, labels.wanted)[0]
                for name, term in terms.items():
                    logs[name] = logs.get(name, 0) + term.detach() / parts
                update.backward(sum(terms.values()) / parts, last=number == parts)
                fakes.append(sr.detach())
        return {**logs, "l_g_total": sum(logs.values())}, fakes

    def _update_discriminator(self, run: Steps, fakes: list[Tensor], labels: Labels) -> dict[str, Tensor]:
        logs, parts = {}, len(fakes)
        with run.update("D") as update:
            for number, (batch, fake) in enumerate(zip(run.batches, fakes, strict=True), start=1):
                of_real, said_of_real = self._distance(run, batch["HR"], labels.real)
                of_fake, said_of_fake = self._distance(run, fake, labels.fake)
                update.backward((of_real + of_fake) / parts, last=number == parts)
                found = {"l_d_real": of_real, "l_d_fake": of_fake, "D_real": said_of_real, "D_fake": said_of_fake}
                for name, value in found.items():
                    logs[name] = logs.get(name, 0) + value.detach() / parts
        return logs

    @staticmethod
    def _distance(run: Steps, volume: Tensor, label: float) -> tuple[Tensor, Tensor]:
        """Mean squared distance of what the discriminator says from a label (Mao et al., 2017); the mean it says."""
        with run.autocast():
            said = run.networks["D"](volume)
        said = precise(said)
        return (said - label).square().mean(), said.mean()

    def card_facts(self) -> dict:
        """Weights of the losses."""
        t = self._train
        losses = {"pixel": t.pixel_weight, "gradient difference": t.gradient_difference_weight, "GAN": t.gan_weight}
        return {"losses": {name: w for name, w in losses.items() if w > 0}, "is_adversarial": self._has_judge}


def gradient_difference(sr: Tensor, hr: Tensor) -> Tensor:
    """Squared difference of the lengths of forward differences along each axis, summed, for one voxel.

    sum over axes and voxels of (|d sr| - |d hr|)^2, divided by the number of voxels (Mathieu et al., Deep multi-scale
    video prediction beyond mean square error, ICLR 2016, with squares), so that it weighs against the mean squared
    difference as the published sums do.

    Parameters
    ----------
    sr, hr : Tensor, shape (N, C, k, j, i)
    """
    total = sr.new_zeros(())
    for axis in range(2, sr.dim()):
        total = total + (sr.diff(dim=axis).abs() - hr.diff(dim=axis).abs()).square().sum()
    return total / sr.numel()
