"""Slices by squared differences or VGG16's features, and how sure the network is of them.

The losses of an image are those of Johnson et al. (Perceptual losses, 2016) for super-resolution: the mean squared
difference of pixels ("mse"), or of VGG16's relu2_2 ("perceptual"). A network that also gives the logarithm s of its
error's variance learns it by the Gaussian likelihood of that error, mean(exp(-s) (y - mu)^2 / 2 + s / 2) (Nix and
Weigend, 1994; Tanno et al., 2017). There the image mu counts as given: no image is made worse for likelier bars, though
both learn the features that they share. With `train.bars_alone` nothing but the log-variance learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ...core.errors import OptionError
from ...models.intervals import GAUSSIAN
from ...networks import NETWORKS
from ...networks.options import NoOptions
from ...networks.vgg import VGG16
from ..data.batches import Batch
from ..data.source import TrainingSource, open_images, open_source
from ..options import TrainingOptions
from ..step import Steps
from ..validation import Enlarger, Validator, border_of, undisturbed
from .gan import precise
from .recipe import BETA2, Recipe, Use, build_generator, example_patches, patch_shapes, refuse_parts
from .unetspsr import adam
from .vgg_weights import load_vgg16

OUTPUTS = ("sr", "log_variance")
VARIANCE = "variance"  # how the names of the parts begin that tell the log-variance


class PerceptualRecipe(Recipe):
    """Networks, losses and step of "model": "perceptual".

    Parameters
    ----------
    options : TrainingOptions
    weights : bool
        Whether the feature network gets its weights, see `build_recipe`.

    Raises
    ------
    OptionError
        If the perceptual loss is asked for and the feature network's file is not named or does not exist; or if the
        log-variance alone is to be trained and the network has none.
    ModelError
        If that file is damaged.
    """

    def __init__(self, options: TrainingOptions, weights: bool = True) -> None:
        self._options, self._train = options, options.train
        self._has_bars = bool(getattr(options.network_G.options, "log_variance", False))
        if self._train.bars_alone and not (self._has_bars and options.path.pretrain_model_G):
            raise OptionError(
                "train.bars_alone trains the log-variance beside a finished image, and "
                + ("no model is named that gives it." if self._has_bars else "the network has no log-variance."),
                "Name a model in path.pretrain_model_G."
                if self._has_bars
                else "Set network_G.log_variance to true, or train.bars_alone to false.",
            )
        self.frozen: Mapping[str, nn.Module] = {}
        if self._train.loss == "perceptual" and not self._train.bars_alone:
            self.frozen = {"feature": load_vgg16(options.path.feature_weights) if weights else None}

    @property
    def may_be_in_parts(self) -> bool:
        """Batch norm, which the published layouts have, needs the whole batch at once."""
        return getattr(self._options.network_G.options, "layout", "own") == "own"

    def check(self, processes: int, device: str, micro_batches: int = 1) -> None:
        """Refuse what batch norm would make another training; see `Recipe.check`."""
        if not self.may_be_in_parts:
            layout = f"network_G.layout {self._options.network_G.options.layout}"
            refuse_parts(layout, "network_G.layout own", processes, device, micro_batches)

    def open_source(self) -> TrainingSource:
        """Pairs of LR and HR patches of slices."""
        return open_source(self._options.dataset("train"), self._options)

    def open_validation(self) -> Validator | None:
        """PSNR, SSIM and gradient error beside cubic interpolation; of error bars their likelihood and coverage."""
        dataset = self._options.dataset("val")
        if dataset is None:
            return None
        images = open_images(dataset, self._options)
        kind = BarsValidator if self._has_bars else Validator
        return kind(self._options, images, images.warnings, images.close)

    def is_better(self, results: Mapping[str, float], best: Mapping[str, float]) -> bool:
        """The highest PSNR; where the image stays as it is, the bars of the greatest likelihood."""
        if self._train.bars_alone:
            return "nll" in results and results["nll"] < best.get("nll", inf)
        return super().is_better(results, best)

    def example_batch(self, images: int) -> Batch:
        """Noise of the size of the patches."""
        return example_patches(self._options, images)

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """Generator: forward, backward; forward alone, nearly, where only its bars learn."""
        network, shapes = self._options.network_G, patch_shapes(self._options)
        passes = 1 if self._train.bars_alone else 3
        uses = {"G": Use(NETWORKS[network.network].path, network.options, shapes["LR"], passes=passes)}
        if self.frozen:
            path = f"{VGG16.__module__}:{VGG16.__name__}"
            uses["VGG16"] = Use(path, NoOptions(), shapes["HR"], passes=3, trained=False)
        return uses

    def build(self) -> dict[str, nn.Module]:
        """A new generator with its initial weights."""
        network = build_generator(self._options)
        if self._train.bars_alone:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name.startswith(VARIANCE))
        return {"G": network}

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Adam."""
        t = self._train
        group = {"lr": t.lr_G, "betas": (t.beta1_G, BETA2), "weight_decay": t.weight_decay_G}
        return {"G": adam([{"params": [p for p in networks["G"].parameters() if p.requires_grad], **group}])}

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One iteration; returns "l_g_pix" or "l_g_fea", "l_g_nll" and their sum "l_g_total"."""
        self.check(1, run.batches[0]["LR"].device.type, len(run.batches))
        told, logs, parts = self._options.network_G.conditions, {}, len(run.batches)
        with run.update("G") as update:
            for number, batch in enumerate(run.batches, start=1):
                conditions = [{name: batch[name] for name in told}] if told else []
                with run.autocast():
                    output = run.networks["G"](batch["LR"], *conditions)
                sr, terms = precise(output["sr"]), {}
                if not self._train.bars_alone:
                    terms |= self._image_loss(run, sr, batch["HR"])
                if self._has_bars:
                    terms["l_g_nll"] = gaussian_nll(sr.detach(), precise(output["log_variance"]), batch["HR"])
                for name, term in terms.items():
                    logs[name] = logs.get(name, 0) + term.detach() / parts
                update.backward(sum(terms.values()) / parts, last=number == parts)
        return {**logs, "l_g_total": sum(logs.values())}

    def _image_loss(self, run: Steps, sr: Tensor, high: Tensor) -> dict[str, Tensor]:
        if self._train.loss == "mse":
            return {"l_g_pix": F.mse_loss(sr, high)}
        with run.autocast():
            with torch.no_grad():
                expected = self.frozen["feature"](high)
            found = self.frozen["feature"](sr)
        return {"l_g_fea": F.mse_loss(precise(found), precise(expected))}

    def card_facts(self) -> dict[str, Any]:
        """The losses by name."""
        losses = {} if self._train.bars_alone else {self._train.loss: 1.0}
        return {"losses": {**losses, **({"Gaussian likelihood of the error": 1.0} if self._has_bars else {})}}


def gaussian_nll(image: Tensor, log_variance: Tensor, truth: Tensor) -> Tensor:
    """Mean negative logarithm of the likelihood of an error, without its constant."""
    return 0.5 * (torch.exp(-log_variance) * (truth - image).square() + log_variance).mean()


class BarsValidator(Validator):
    """Also measures what a network says of its own errors: "nll", and the share "coverage" of pixels that lie within
    1.645 of its deviations, 0.9 if these were right and the errors Gaussian.
    """

    def run(self, networks, step, folder: Path | None = None, cancelled=None) -> dict[str, float]:
        """As `Validator.run`."""
        found = super().run(networks, step, folder, cancelled)
        network, rows = networks["G"], []
        with undisturbed():
            enlarge = Enlarger(network, str(next(network.parameters()).device), cancelled=cancelled)
            for pair in self._pairs:
                if pair.HR is None:
                    continue
                border = border_of(pair.HR, self._scale)
                inner = (slice(border, -border or None),) * 2
                outputs = (enlarge(pair.input, name, blur=pair.blur, noise=pair.noise) for name in OUTPUTS)
                image, spread, truth = (np.asarray(a, np.float64)[inner] for a in (*outputs, pair.HR))
                squared = np.square(image - truth)
                nll = 0.5 * np.mean(squared * np.exp(-spread) + spread)
                rows.append((nll, np.mean(squared <= GAUSSIAN**2 * np.exp(spread))))
        if rows:
            found["nll"], found["coverage"] = map(float, np.mean(rows, axis=0))
        return found
