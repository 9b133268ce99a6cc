"""Recipes of the coming families, for tests: each trains a stub network of a few weights by the recipe's contract."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np
import torch
from CBCTSuperResLib.networks import NETWORKS, build_network
from CBCTSuperResLib.train.data.batches import Batch
from CBCTSuperResLib.train.data.block_scan import BlockScan
from CBCTSuperResLib.train.data.blocks import open_blocks
from CBCTSuperResLib.train.data.source import TrainingSource, open_source
from CBCTSuperResLib.train.data.unpaired import open_unpaired
from CBCTSuperResLib.train.recipes import RECIPES, Registered
from CBCTSuperResLib.train.recipes.recipe import Recipe, Use
from CBCTSuperResLib.train.step import Steps
from CBCTSuperResLib.train.validation import Enlarger, undisturbed
from torch import Tensor, nn
from torch.nn import functional as F


class StubRecipe(Recipe):
    """One generator and the mean absolute difference."""

    def __init__(self, options, weights: bool = True) -> None:
        self.options = options

    def build(self) -> dict[str, nn.Module]:
        block = self.options.network_G
        return {"G": build_network(block.network, **vars(block.options))}

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
        return {role: torch.optim.Adam(network.parameters(), 1e-3) for role, network in networks.items()}

    def step(self, run: Steps) -> dict[str, Tensor]:
        total = torch.zeros(())
        with run.update("G") as update:
            for number, batch in enumerate(run.batches, start=1):
                loss = self.loss(run, batch) / len(run.batches)
                update.backward(loss, last=number == len(run.batches))
                total = total + loss.detach()
        return {"l_g_pix": total}

    def loss(self, run: Steps, batch: Batch) -> Tensor:
        raise NotImplementedError


class BlockValidation:
    """PSNR of a few blocks of the training source, always the same."""

    def __init__(self, recipe: StubRecipe) -> None:
        self.warnings: list[str] = []
        self._recipe, self._source = recipe, recipe.open_source()
        self.close = self._source.close

    def run(self, networks, step, folder) -> dict[str, float]:
        with undisturbed():
            enlarge, errors = Enlarger(networks["G"]), []
            for number in range(3):
                batch = self._source.batch([0], [np.random.default_rng(number)])
                low, high = (batch[role][0, 0].numpy() for role in ("LR", "HR"))
                if "positions" in batch:
                    scale = [float(1 / (places[1] - places[0])) for places in batch["positions"][0]]
                    first = [
                        round(float((p[0] + 0.5) * f - 0.5)) for p, f in zip(batch["positions"][0], scale, strict=True)
                    ]
                    image = enlarge(low, scale=scale)
                    image = image[tuple(slice(start, start + n) for start, n in zip(first, high.shape, strict=True))]
                    high = high[tuple(slice(0, n) for n in image.shape)]
                else:
                    image = enlarge(low, blur=batch["blur"][0].tolist())
                errors.append(float(np.square(image - high).mean()))
        return {"psnr": -10 * float(np.log10(np.mean(errors))), "images": 3}


class BlockRecipe(StubRecipe):
    """(a) Blocks of a fixed factor; the network is told the blur along each axis."""

    scan = BlockScan(((2, 2), (2, 2), (2, 2)))
    targets: int | None = None

    def open_source(self) -> TrainingSource:
        factor = float(self.options.scale)
        scan = BlockScan(((factor, factor),) * 3)
        return open_blocks(self.options.dataset("train"), self.options, scan)

    def open_validation(self) -> BlockValidation:
        return BlockValidation(self)

    def loss(self, run: Steps, batch: Batch) -> Tensor:
        return F.l1_loss(run.networks["G"](batch["LR"], {"blur": batch["blur"]})["sr"], batch["HR"])


class PointRecipe(StubRecipe):
    """(b) Blocks of any factor along each axis; the network is asked for places that the batch names."""

    def open_source(self) -> TrainingSource:
        scan = BlockScan(((1, 2), (1, 3.3), (1, 3.3)))
        return open_blocks(self.options.dataset("train"), self.options, scan, targets=5)

    def open_validation(self) -> BlockValidation:
        return BlockValidation(self)

    def loss(self, run: Steps, batch: Batch) -> Tensor:
        network = run.networks["G"]
        features = network.encode(batch["LR"])
        found = [network.decode(features[n : n + 1], list(places)) for n, places in enumerate(batch["positions"])]
        return F.l1_loss(torch.cat([output["sr"] for output in found]), batch["HR"])


class UncertainRecipe(StubRecipe):
    """(c) Gaussian likelihood with the network's own variance; the dropout layer draws while it learns."""

    def open_source(self) -> TrainingSource:
        return open_source(self.options.dataset("train"), self.options)

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        block, edge = self.options.network_G, self.options.dataset("train").HR_size // self.options.scale
        return {"G": Use(NETWORKS[block.network].path, block.options, (1, edge, edge), passes=3)}

    def loss(self, run: Steps, batch: Batch) -> Tensor:
        found = run.networks["G"](batch["LR"])
        return (found["log_variance"] + (found["sr"] - batch["HR"]).square() * torch.exp(-found["log_variance"])).mean()


class CycleValidation:
    """How far an image is from itself after the way to the other kind and back."""

    def __init__(self, recipe: TranslatorRecipe) -> None:
        self.warnings = ["Nothing is known to compare with."]
        self._source = recipe.open_source()
        self.close = self._source.close

    def run(self, networks, step, folder) -> dict[str, float]:
        batch = self._source.batch([0, 1], [np.random.default_rng(number) for number in (0, 1)])
        modes = {role: network.training for role, network in networks.items()}
        with torch.inference_mode():
            for network in networks.values():
                network.eval()
            back = networks["G_BA"](networks["G_AB"](batch["LR"])["sr"])
        for role, network in networks.items():
            network.train(modes[role])
        return {"cycle_error": float(F.l1_loss(back, batch["LR"])), "images": 2}


class ImagePool:
    """The last generated images, of which a discriminator sees an old one as often as a new one (Shrivastava, 2017)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, image: Tensor) -> Tensor:
        """A new image in, and that or an older one out; drawn from torch's generator."""
        if len(self.images) < self.size:
            self.images.append(image)
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        old, self.images[place] = self.images[place], image
        return old


class TranslatorRecipe(Recipe):
    """(d) Two generators, x8 into another kind of image and back, two discriminators and their pools; unpaired.

    Both generators are trained in one update, and both discriminators in another.
    """

    exported = "G_AB"

    def __init__(self, options, weights: bool = True) -> None:
        self.options = options
        self.pools = {"D_A": ImagePool(3), "D_B": ImagePool(3)}

    def build(self) -> dict[str, nn.Module]:
        block = self.options.network_G
        back = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
        judges = {role: nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 1, 3)) for role in ("D_A", "D_B")}
        return {"G_AB": build_network(block.network, **vars(block.options)), "G_BA": back, **judges}

    optimizers = StubRecipe.optimizers

    def open_source(self) -> TrainingSource:
        return open_unpaired(self.options.dataset("train"), self.options, (0, 255))

    def open_validation(self) -> CycleValidation:
        return CycleValidation(self)

    def is_better(self, results: Mapping[str, float], best: Mapping[str, float]) -> bool:
        return results["cycle_error"] < best.get("cycle_error", inf)

    def card_facts(self) -> dict:
        return {"losses": {"cycle": 10.0, "GAN": 1.0}, "is_adversarial": True}

    def step(self, run: Steps) -> dict[str, Tensor]:
        parts, networks = len(run.batches), run.networks
        logs = dict.fromkeys(("l_g", "l_cycle", "l_d"), torch.zeros(()))
        fakes = []
        with run.update("G_AB", "G_BA") as update:
            for number, batch in enumerate(run.batches, start=1):
                a, b = batch["LR"], batch["HR"]
                fake_b, fake_a = networks["G_AB"](a)["sr"], networks["G_BA"](b)
                cycle = F.l1_loss(networks["G_BA"](fake_b), a) + F.l1_loss(networks["G_AB"](fake_a)["sr"], b)
                fool = (networks["D_B"](fake_b) - 1).square().mean() + (networks["D_A"](fake_a) - 1).square().mean()
                update.backward((fool + 10 * cycle) / parts, last=number == parts)
                logs["l_g"] = logs["l_g"] + fool.detach() / parts
                logs["l_cycle"] = logs["l_cycle"] + cycle.detach() / parts
                fakes.append({"D_A": fake_a.detach(), "D_B": fake_b.detach()})
        seen = [{role: self._pooled(role, images) for role, images in fake.items()} for fake in fakes]
        with run.update("D_A", "D_B") as update:
            for number, (batch, fake) in enumerate(zip(run.batches, seen, strict=True), start=1):
                loss = torch.zeros(())
                for role, real in (("D_A", batch["LR"]), ("D_B", batch["HR"])):
                    judge = networks[role]
                    loss = loss + (judge(real) - 1).square().mean() + judge(fake[role]).square().mean()
                update.backward(loss / parts, last=number == parts)
                logs["l_d"] = logs["l_d"] + loss.detach() / parts
        return logs

    def _pooled(self, role: str, images: Tensor) -> Tensor:
        return torch.stack([self.pools[role].exchange(image) for image in images])

    def state_dict(self) -> dict:
        return {role: list(pool.images) for role, pool in self.pools.items()}

    def load_state_dict(self, state: Mapping) -> None:
        for role, images in state.items():
            self.pools[role].images = list(images)


FAMILIES = {
    "stub_blocks": BlockRecipe,
    "stub_points": PointRecipe,
    "stub_uncertain": UncertainRecipe,
    "stub_translator": TranslatorRecipe,
}


def register(monkeypatch) -> None:
    """Put the recipes into the registry for one test."""
    for name, cls in FAMILIES.items():
        monkeypatch.setitem(RECIPES, name, Registered(f"{__name__}:{cls.__name__}"))
