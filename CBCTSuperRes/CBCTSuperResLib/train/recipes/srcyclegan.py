"""SR-CycleGAN: coarse slices of one scanner, fine slices of another, and no pairs.

Four networks learn together: G enlarges x, a coarse slice, and F makes a coarse slice of y, a fine one; D_A tells fine
slices from G's, D_B coarse ones from F's. Beside the cycles of Zhu et al. (CycleGAN, ICCV 2017) the losses of Zheng et
al. (J. Med. Imaging 9(2), 2022) tie what is enlarged to what it was: averaged over the enlarged pixel, G x shall be x,
in grey values and in structure (SSIM), and F y, each pixel repeated, shall be y. One step goes: one update of G and F
against the discriminators as they are, then one of both discriminators, with images from before it and from a pool of
earlier ones (Shrivastava et al., 2017).

Ours, unless `train.as_published`: F begins with the blur that the coarse scans tell. It need not invent their noise,
nor can it hide y in it (Chu et al., 2017): noise is added to F y before it is judged and enlarged. And it is not
rewarded where G finds the way back from it more easily, or it would blur too little: that loss trains G alone.

Differences are taken of images from -1 to 1, as published; SSIM, whose constants are made for a range of 1, of images
from 0 to 1, and only with `train.as_published` of those from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from ...io.pictures import comparison, enlarge_nearest, write_picture
from ...networks import DISCRIMINATORS, NETWORKS, build_network
from ...networks.srcyclegan import SRCycleGANBack
from ..data.batches import Batch
from ..data.source import TrainingSource, open_images
from ..data.unpaired import open_unpaired
from ..options import TrainingOptions
from ..step import Steps
from ..validation import Validator, undisturbed
from .gan import precise
from .recipe import BETA2, Recipe, Use, build_generator

PREVIEWS = 2
SSIM_WINDOW, SSIM_SD = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for a range of 1
BACK = f"{SRCycleGANBack.__module__}:{SRCycleGANBack.__name__}"


class SRCycleGANRecipe(Recipe):
    """Networks, losses and step of "model": "srcyclegan".

    Parameters
    ----------
    options : TrainingOptions
    weights : bool
        There is nothing that needs any.
    """

    exported = "G"
    names: Mapping[str, str] = {
        "G": "generator",
        "F": "generator back",
        "D_A": "discriminator of fine slices",
        "D_B": "discriminator of coarse slices",
    }

    def __init__(self, options: TrainingOptions, weights: bool = True) -> None:
        self._options, self._train = options, options.train
        self.pools = {role: ImagePool(options.train.pool_size) for role in ("D_A", "D_B")}
        self._source: TrainingSource | None = None
        self._blur, self._noise = self._train.coarse_blur, self._train.coarse_noise or 0.0
        if self._train.as_published:
            self._blur, self._noise = None, 0.0

    def open_source(self) -> TrainingSource:
        """Patches of coarse slices (dataroot_LR) and of fine ones (dataroot_HR) of other places.

        Without `normalization_range` and `train.fine_range` the windows are estimated, each of its own slices.
        """
        source = open_unpaired(self._options.dataset("train"), self._options, self._train.fine_range)
        if not self._train.as_published:
            found = source.describe()["coarse_scanner"]
            self._blur = found["blur"] if self._train.coarse_blur is None else self._train.coarse_blur
            self._noise = found["noise"] or 0.0 if self._train.coarse_noise is None else self._train.coarse_noise
            blur = "not told by them" if self._blur is None else f"{self._blur:.2g} of their pixels"
            source.warnings.append(f"Blur of the coarse slices: {blur}. Noise: {self._noise:.2%} of their window.")
        if len(source) < self._train.pool_size:
            source.warnings.append(
                f"There are {len(source)} coarse slices; the pool of {self._train.pool_size} earlier images will hold "
                "several of each."
            )
        self._source = source
        return source

    def open_validation(self) -> CycleValidator | None:
        """PSNR, SSIM and gradient error of fine slices whose coarse ones are simulated, beside cubic interpolation: a
        proxy, as nobody knows the truth of the coarse scanner's slices. Pictures also show both ways and back.
        """
        dataset = self._options.dataset("val")
        if dataset is None:
            return None
        is_own = self._source is None
        source = self._source or self.open_source()
        if dataset.normalization_range is None:
            fine = source.output_window
            dataset = replace(dataset, normalization_range=(fine.lo, fine.hi))
        return CycleValidator(self._options, open_images(dataset, self._options), source, is_own)

    def example_batch(self, images: int) -> Batch:
        """Noise of the size of the patches."""
        return {role: torch.rand(images, *shape) for role, shape in self._shapes.items()}

    @property
    def _shapes(self) -> dict[str, tuple[int, int, int]]:
        edge = self._options.datasets["train"].HR_size
        small = edge // self._options.scale
        return {"LR": (1, small, small), "HR": (1, edge, edge)}

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """Of each generator: both ways and the way back, forward and backward; of each discriminator three times."""
        g, d, shapes = self._options.network_G, self._options.network_D, self._shapes
        judge = DISCRIMINATORS[d.network].path
        passes = 3 * (2 + (self._train.identity_fine_weight > 0))
        return {
            "G": Use(NETWORKS[g.network].path, g.options, shapes["LR"], passes=passes),
            "F": Use(BACK, g.options, shapes["HR"], passes=6),
            "D_A": Use(judge, d.options, shapes["HR"], passes=9),
            "D_B": Use(judge, d.options, shapes["LR"], passes=9),
        }

    def build(self) -> dict[str, nn.Module]:
        """New networks with their initial weights: "G", "F", "D_A" and "D_B"."""
        enlarging, d = build_generator(self._options), self._options.network_D
        back = SRCycleGANBack(**enlarging.options)
        if self._blur is not None and back.options["residual"]:
            back.begin_with(self._blur)
        networks = {"G": enlarging, "F": back}
        return networks | {role: build_network(d.network, **asdict(d.options)) for role in ("D_A", "D_B")}

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Adam for each network."""
        t = self._train
        rates = {
            "G": (t.lr_G, t.beta1_G),
            "F": (t.lr_G, t.beta1_G),
            "D_A": (t.lr_D, t.beta1_D),
            "D_B": (t.lr_D, t.beta1_D),
        }
        return {
            role: Adam(network.parameters(), lr=rates[role][0], betas=(rates[role][1], BETA2))
            for role, network in networks.items()
        }

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One iteration.

        Logs the ten terms with their weights, "l_g_total", their sum, "l_d_fine" and "l_d_coarse".
        """
        logs: dict[str, Any] = {}
        fakes, parts = [], len(run.batches)
        with run.update("G", "F") as update:
            for number, batch in enumerate(run.batches, start=1):
                terms, fake = self._terms(run, batch["LR"], batch["HR"])
                update.backward(sum(terms.values()) / parts, last=number == parts)
                fakes.append(fake)
                for name, term in terms.items():
                    logs[name] = logs.get(name, 0) + term.detach() / parts
        logs["l_g_total"] = sum(logs.values())
        fakes = [{role: self.pools[role].exchanged(images) for role, images in fake.items()} for fake in fakes]
        with run.update("D_A", "D_B") as update:
            for number, (batch, fake) in enumerate(zip(run.batches, fakes, strict=True), start=1):
                of = {
                    "l_d_fine": self._judged(run, "D_A", batch["HR"], fake["D_A"]),
                    "l_d_coarse": self._judged(run, "D_B", batch["LR"], fake["D_B"]),
                }
                update.backward(sum(of.values()) / parts, last=number == parts)
                for name, term in of.items():
                    logs[name] = logs.get(name, 0) + term.detach() / parts
        return logs

    def _terms(self, run: Steps, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The generators' losses by name, with their weights, and what they made, without gradients."""
        t, scale = self._train, self._options.scale

        def enlarge(image: Tensor) -> Tensor:
            with run.autocast():
                return precise(run.networks["G"](image)["sr"])

        def reduce(image: Tensor) -> Tensor:
            with run.autocast():
                return precise(run.networks["F"](image))

        def fooled(role: str, image: Tensor) -> Tensor:
            with run.autocast():
                return (precise(run.networks[role](image)) - 1).square().mean()

        g_x, f_y = enlarge(x), reduce(y)
        noisy = f_y + self._noise * torch.randn_like(f_y) if self._noise else f_y
        given = noisy if t.as_published else noisy.detach()
        weighted: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "l_g_gan_fine": (t.gan_weight, lambda: fooled("D_A", g_x)),
            "l_g_gan_coarse": (t.gan_coarse_weight, lambda: fooled("D_B", noisy)),
            "l_g_cycle_coarse": (t.cycle_coarse_weight, lambda: _distance(reduce(g_x), x)),
            "l_g_cycle_fine": (t.cycle_fine_weight, lambda: _distance(enlarge(given), y)),
            "l_g_identity_fine": (t.identity_fine_weight, lambda: self._identity_fine(enlarge, y)),
            "l_g_identity_coarse": (t.identity_coarse_weight, lambda: self._identity_coarse(reduce, x)),
            "l_g_down": (t.down_weight, lambda: _distance(F.avg_pool2d(g_x, scale), x)),
            "l_g_up": (t.up_weight, lambda: _distance(_repeated(f_y, scale), y)),
            "l_g_ssim_clinical": (t.clinical_ssim_weight, lambda: 1 - self._ssim(F.avg_pool2d(g_x, scale), x)),
            "l_g_ssim_micro": (t.micro_ssim_weight, lambda: 1 - self._ssim(_repeated(f_y, scale), y)),
        }
        terms = {name: weight * term() for name, (weight, term) in weighted.items() if weight > 0}
        return terms, {"D_A": g_x.detach(), "D_B": noisy.detach()}

    def _identity_fine(self, enlarge: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        """G shall leave a fine slice as it is, but for its sampling. Of the patch's first part, which costs a
        `scale`-th squared as much; as published, of all of it."""
        edge = y.shape[-1] if self._train.as_published else y.shape[-1] // self._options.scale
        part = y[..., :edge, :edge]
        return _distance(F.avg_pool2d(enlarge(part), self._options.scale), part)

    def _identity_coarse(self, reduce: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """F shall leave a coarse slice as it is."""
        scale = self._options.scale
        if not self._train.as_published:
            return _distance(reduce(_repeated(x, scale)), x)
        reduced = reduce(x)
        if scale == 4:
            return _distance(_repeated(reduced, scale), x)
        return _distance(F.interpolate(reduced, scale_factor=scale, mode="bilinear", align_corners=True), x)

    def _ssim(self, a: Tensor, b: Tensor) -> Tensor:
        return ssim(2 * a - 1, 2 * b - 1) if self._train.as_published else ssim(a, b)

    @staticmethod
    def _judged(run: Steps, role: str, real: Tensor, fake: Tensor) -> Tensor:
        """Least squares (Mao et al., 2017): 1 of what is real, 0 of what is not."""
        with run.autocast():
            of_real, of_fake = precise(run.networks[role](real)), precise(run.networks[role](fake))
        return ((of_real - 1).square().mean() + of_fake.square().mean()) / 2

    def card_facts(self) -> dict:
        """Weights of the losses."""
        t = self._train
        losses = {
            "GAN, fine": t.gan_weight,
            "GAN, coarse": t.gan_coarse_weight,
            "cycle, coarse": t.cycle_coarse_weight,
            "cycle, fine": t.cycle_fine_weight,
            "identity, fine": t.identity_fine_weight,
            "identity, coarse": t.identity_coarse_weight,
            "down": t.down_weight,
            "up": t.up_weight,
            "clinical SSIM": t.clinical_ssim_weight,
            "micro SSIM": t.micro_ssim_weight,
        }
        return {"losses": {name: weight for name, weight in losses.items() if weight > 0}, "is_adversarial": True}

    def state_dict(self) -> dict[str, Any]:
        """The images of the pools."""
        return {role: list(pool.images) for role, pool in self.pools.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for role, images in state.items():
            self.pools[role].images = list(images)


class ImagePool:
    """The last images that a generator made; a discriminator sees one of them as often as a new one.

    Parameters
    ----------
    size : int
        0 for none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def exchanged(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of which some are earlier ones, whose places the new take; draws from torch."""
        return torch.stack([self._exchanged(image) for image in images])

    def _exchanged(self, image: Tensor) -> Tensor:
        if not self.size:
            return image
        if len(self.images) < self.size:
            self.images.append(image.cpu())
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        old, self.images[place] = self.images[place], image.cpu()
        return old.to(image.device)


class CycleValidator(Validator):
    """As `Validator`, with pictures of slices of either scanner, what becomes of them, and of that on the way back."""

    def __init__(self, options: TrainingOptions, images, source: TrainingSource, is_own: bool) -> None:
        super().__init__(options, images, images.warnings, images.close)
        self._source, self._close_images = source, images.close
        if is_own:  # otherwise whoever trains on it closes it
            self.close = self._close_all

    def run(self, networks, step, folder: Path | None = None, cancelled=None) -> dict[str, float]:
        """As `Validator.run`; `networks` also holds "F"."""
        found = super().run(networks, step, folder, cancelled)
        count = min(PREVIEWS, len(self._source), self._pictured)
        if folder and count:
            batch = self._source.batch(list(range(count)), [np.random.default_rng(n) for n in range(count)])
            g, f = networks["G"], networks["F"]
            device = next(g.parameters()).device
            with undisturbed(), torch.inference_mode(), _evaluating(g, f):
                x, y = batch["LR"].to(device), batch["HR"].to(device)
                g_x, f_y = g(x)["sr"], f(y)
                ways = {"coarse": (x, g_x, f(g_x)), "fine": (y, f_y, g(f_y)["sr"])}
            for number in range(count):
                for kind, images in ways.items():
                    grey = [image[number, 0].float().cpu().numpy() for image in images]
                    grey = [
                        image if len(image) == y.shape[-2] else enlarge_nearest(image, self._scale) for image in grey
                    ]
                    panels = dict(zip((kind, "as the other", "and back"), grey, strict=True))
                    name = f"{kind} {number + 1}"
                    write_picture(comparison(panels), folder / name / f"{name}_{step}.png")
        return found

    def _close_all(self) -> None:
        self._close_images()
        self._source.close()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al., 2004) for a range of 1, borders included as if zeros lay beyond.

    Parameters
    ----------
    a, b : Tensor, shape (N, 1, H, W)
    """
    places = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=a.device) - SSIM_WINDOW // 2
    line = torch.exp(-(places**2) / (2 * SSIM_SD**2))
    line = line / line.sum()
    window = torch.outer(line, line)[None, None].to(a.dtype)

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=SSIM_WINDOW // 2)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    return (luminance * (2 * both + SSIM_C2) / (var_a + var_b + SSIM_C2)).mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of images from -1 to 1."""
    return 2 * F.l1_loss(a, b)


def _repeated(image: Tensor, scale: int) -> Tensor:
    return F.interpolate(image, scale_factor=scale, mode="nearest")


@contextmanager
def _evaluating(*networks: nn.Module) -> Iterator[None]:
    modes = [(network, network.training) for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, training in modes:
            network.train(training)
