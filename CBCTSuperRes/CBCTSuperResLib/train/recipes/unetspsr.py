"""UNetSPSR: pixels, features, gradients and two discriminators (Ma et al., SPSR, 2020, section 3.3).

The discriminators are Real-ESRGAN's U-Nets, one for images and one for their gradient maps. One step goes: the
generator's update, against the discriminators as they are; then each discriminator's, with the images from before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from ...networks import DISCRIMINATORS, NETWORKS, build_network
from ...networks.blocks import gradient_map
from ...networks.options import NoOptions
from ...networks.vgg import VGG19
from ..data.batches import Batch
from ..data.source import TrainingSource, open_images, open_source
from ..options import TrainingOptions
from ..step import Steps
from ..validation import Validator
from .gan import GAN_LOSSES, DiscriminatorTraining, GeneratorTerm, precise
from .recipe import BETA2, DISTANCES, Recipe, Use, build_generator, example_patches, patch_shapes, refuse_parts
from .vgg_weights import load_vgg19

BRANCH, FUSION = "branch_", "fusion_"  # how the names of the generator's parts begin


@dataclass
class Part:
    """One micro-batch during a step: images, what the generator is told of LR's acquisition, and what each
    discriminator sees of HR and SR, by role.
    """

    low: Tensor
    high: Tensor
    conditions: dict[str, Tensor]
    real: dict[str, Tensor]
    fake: dict[str, Tensor] = field(default_factory=dict)


class UNetSPSRRecipe(Recipe):
    """Networks, losses and step of "model": "unetspsr".

    Terms of weight 0 are not computed, and a discriminator whose term has weight 0 does not exist. Until
    `train.warmup_iters` the pixel and branch losses train the generator alone and the discriminators are untouched.
    `Branch_pretrain` has its legacy meaning: before `Branch_init_iters` the generator's updates change only the fusion
    layers.

    Parameters
    ----------
    options : TrainingOptions
    weights : bool
        Whether the feature network gets its weights, see `build_recipe`.

    Raises
    ------
    OptionError
        If the feature network's file is not named or does not exist.
    ModelError
        If that file is damaged.
    """

    def __init__(self, options: TrainingOptions, weights: bool = True) -> None:
        train = options.train
        self._options, self._train = options, train
        self._padding = options.network_D.options.gradient_padding
        gan_weights = {"D": train.gan_weight, "D_grad": train.gradient_gan_weight}
        loss = GAN_LOSSES[train.gan_type]
        self._discriminators = [DiscriminatorTraining(role, w, loss) for role, w in gan_weights.items() if w > 0]
        self.frozen: Mapping[str, nn.Module] = {}
        if train.feature_weight > 0:
            self.frozen = {"feature": load_vgg19(options.path.feature_weights)} if weights else {"feature": None}

    def check(self, processes: int, device: str, micro_batches: int = 1) -> None:
        """Refuse what would not be the same training in several processes or with an accumulated batch.

        Parameters
        ----------
        processes : int
        device : str
            "cpu" or "cuda". On CUDA, the caller makes batch norm synchronous (`SyncBatchNorm`).
        micro_batches : int
            How many make up the batch of a process.

        Raises
        ------
        OptionError
        """
        if not self.may_be_in_parts:
            refuse_parts("discriminator_vgg_128", "discriminator_unet_128", processes, device, micro_batches)

    def open_source(self) -> TrainingSource:
        """Pairs of LR and HR patches of slices."""
        return open_source(self._options.dataset("train"), self._options)

    def open_validation(self) -> Validator | None:
        """PSNR, SSIM and gradient error beside cubic interpolation; the best has the highest PSNR."""
        dataset = self._options.dataset("val")
        if dataset is None:
            return None
        images = open_images(dataset, self._options)
        return Validator(self._options, images, images.warnings, images.close)

    def example_batch(self, images: int) -> Batch:
        """Noise of the size of the patches."""
        return example_patches(self._options, images)

    @property
    def may_be_in_parts(self) -> bool:
        """Batch norm needs the whole batch at once."""
        return not (self._discriminators and self._options.network_D.options.has_batch_norm)

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """Generator: forward, backward. Discriminators: that in its update, twice that in their own. Relativistic
        losses over several parts need all outputs beforehand.
        """
        network, ahead = self._options.network_G, micro_batches > 1
        low, high = patch_shapes(self._options).values()
        generator = NETWORKS[network.network].path, network.options, low
        if in_warm_up:
            return {"G": Use(*generator, passes=3)}
        uses = {"G": Use(*generator, passes=3 + (ahead and bool(self._discriminators)))}
        channels, edge, _ = high
        block = self._options.network_D
        for discriminator in self._discriminators:
            seen = edge + (2 * self._padding - 2 if discriminator.role == "D_grad" else 0)
            path = DISCRIMINATORS[block.network].path
            uses[discriminator.role] = Use(path, block.options, (channels, seen, seen), passes=9 + 3 * ahead)
        if self.frozen:
            path = f"{VGG19.__module__}:{VGG19.__name__}"
            uses["VGG19"] = Use(path, NoOptions(), high, passes=3, trained=False)
        return uses

    def build(self) -> dict[str, nn.Module]:
        """New networks with their initial weights: "G", "D", "D_grad".

        The U-Nets keep torch's usual ones, as Real-ESRGAN's do.
        """
        g, d = self._options.network_G, self._options.network_D
        networks = {"G": build_generator(self._options)}
        if g.initial == "interpolation" and g.network == "unetspsr":
            begin_as_interpolation(networks["G"])
        for discriminator in self._discriminators:
            networks[discriminator.role] = build_network(d.network, **asdict(d.options))
        return networks

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Adam for each network; the generator's gradient branch is the second group of its own."""
        t, parameters = self._train, dict(networks["G"].named_parameters())
        groups = [
            {
                "params": [p for name, p in parameters.items() if not name.startswith(BRANCH)],
                "lr": t.lr_G,
                "betas": (t.beta1_G, BETA2),
                "weight_decay": t.weight_decay_G,
            },
            {
                "params": [p for name, p in parameters.items() if name.startswith(BRANCH)],
                "lr": t.lr_G_grad,
                "betas": (t.beta1_G_grad, BETA2),
                "weight_decay": t.weight_decay_G_grad,
            },
        ]
        optimizers = {"G": adam(groups)}
        for discriminator in self._discriminators:
            group = {"lr": t.lr_D, "betas": (t.beta1_D, BETA2), "weight_decay": t.weight_decay_D}
            optimizers[discriminator.role] = adam(
                [{"params": list(networks[discriminator.role].parameters()), **group}]
            )
        return optimizers

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One iteration; the names of what is returned are SPSR's.

        Losses are returned with their weights: "l_g_*" of the generator, "l_g_total" their sum, "l_d_*" of the
        discriminators; further "D_real" and "D_fake", the mean outputs, and "D_gap", their difference, which alone has
        a meaning where losses are relativistic. Names of the discriminator of gradient maps end with "_grad".
        """
        self.check(1, run.batches[0]["LR"].device.type, len(run.batches))  # the loop may have made them smaller
        told = self._options.network_G.conditions
        parts = [
            Part(batch["LR"], batch["HR"], {name: batch[name] for name in told}, self._views(batch["HR"]))
            for batch in run.batches
        ]
        in_warm_up = run.number <= self._train.warmup_iters
        logs = self._update_generator(run, parts, () if in_warm_up else self._discriminators, in_warm_up)
        for discriminator in () if in_warm_up else self._discriminators:
            role = discriminator.role
            found = discriminator.update(run, [part.real[role] for part in parts], [part.fake[role] for part in parts])
            logs |= {name + role.removeprefix("D"): value for name, value in found.items()}
        return logs

    def _update_generator(
        self, run: Steps, parts: list[Part], discriminators: Sequence[DiscriminatorTraining], in_warm_up: bool
    ) -> dict[str, Tensor]:
        t, logs = self._train, {}
        pixel, feature, branch = (
            DISTANCES[name] for name in (t.pixel_criterion, t.feature_criterion, t.pixel_branch_criterion)
        )
        with run.update("G") as update, self._fusion_alone(run):
            gan = {d.role: GeneratorTerm(run, d, [part.real[d.role] for part in parts]) for d in discriminators}
            if gan and len(parts) > 1:
                with torch.no_grad():
                    for part in parts:
                        part.fake = self._views(self._enlarged(run, part)["sr"])
                for role, term in gan.items():
                    term.see_all([part.fake[role] for part in parts])
            for number, part in enumerate(parts, start=1):
                output = self._enlarged(run, part)
                sr, views, terms = output["sr"], self._views(output["sr"]), {}
                part.fake = {role: view.detach() for role, view in views.items()}
                if t.pixel_weight > 0:
                    terms["l_g_pix"] = t.pixel_weight * pixel(sr, part.high)
                if t.pixel_branch_weight > 0:
                    target = part.real["D_grad"] if "D_grad" in part.real else gradient_map(part.high)
                    if target.shape != part.high.shape:  # SPSR's VGG sees a map with wider padding
                        target = target[..., 1:-1, 1:-1]
                    terms["l_g_pix_grad_branch"] = t.pixel_branch_weight * branch(output["branch"], target)
                if t.feature_weight > 0 and not in_warm_up:
                    with run.autocast():
                        with torch.no_grad():
                            expected = self.frozen["feature"](part.high)
                        found = self.frozen["feature"](sr)
                    terms["l_g_fea"] = t.feature_weight * feature(precise(found), precise(expected))
                if t.gradient_pixel_weight > 0 and not in_warm_up:
                    terms["l_g_pix_grad"] = t.gradient_pixel_weight * F.mse_loss(views["D_grad"], part.real["D_grad"])
                for name, term in terms.items():
                    logs[name] = logs.get(name, 0) + term.detach() / len(parts)
                losses = [*terms.values(), *(term.loss(views[role]) for role, term in gan.items())]
                update.backward(sum(losses) / len(parts), last=number == len(parts))
        logs |= {f"l_g_gan{role.removeprefix('D')}": term.value for role, term in gan.items()}
        return {**logs, "l_g_total": sum(logs.values())}

    def _views(self, image: Tensor) -> dict[str, Tensor]:
        """What the discriminators see of an image: itself and its gradient map, which a loss compares as well."""
        if self._train.gradient_gan_weight > 0 or self._train.gradient_pixel_weight > 0:
            return {"D": image, "D_grad": gradient_map(image, self._padding)}
        return {"D": image}

    @staticmethod
    def _enlarged(run: Steps, part: Part) -> dict[str, Tensor]:
        with run.autocast():
            output = run.networks["G"](part.low, part.conditions) if part.conditions else run.networks["G"](part.low)
        return {name: precise(output[name]) for name in ("sr", "branch") if name in output}

    @contextmanager
    def _fusion_alone(self, run: Steps) -> Iterator[None]:
        """Legacy Branch_pretrain: in its first iterations only the layers that fuse both paths have gradients."""
        frozen: list[nn.Parameter] = []
        if self._train.Branch_pretrain and run.number < self._train.Branch_init_iters:
            named = run.networks["G"].named_parameters()
            frozen = [p for name, p in named if not name.startswith(FUSION) and p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)


def adam(groups: Sequence[dict]) -> Adam:
    """Adam (Kingma and Ba, 2015), in one pass over all weights where this torch can do that on their device."""
    try:
        return Adam(groups, fused=True)
    except RuntimeError:
        return Adam(groups)


@torch.no_grad()
def begin_as_interpolation(network: nn.Module) -> None:
    """Initial weights of a UNetSPSR with which its output is nearly the linear interpolation of its input.

    The published UNetSPSR has no skip from input to output, so a small network would spend its first thousand steps on
    learning the identity. One feature for each channel (of folded pixels one for each of them) carries the image (of
    several slices the middle one) from the head to the output: nearest enlargement by two and the kernel [1, 2, 1]/4,
    or by three and [1, 1, 1]/3, are linear interpolation. All other weights are random, and small where they meet that
    path's end. With `skip` there is no such path: what is added to the interpolation begins small.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            layer.weight.mul_(0.7)
            nn.init.zeros_(layer.bias)
    if network.skip:
        network.fusion_out.weight *= 0.1
        return
    part = network.unshuffle**2
    nf = network.options["nf"] // part
    point = torch.tensor([0.0, 1.0, 0.0])
    smooth = {2: torch.tensor([1.0, 2.0, 1.0]) / 4, 3: torch.ones(3) / 3}
    path = [(up.conv, 0, smooth[up.factor]) for up in network.up]
    path += [(network.hr0, 0, point), (network.hr1, 0, point), (network.fusion_reduce, nf, point)]
    path += [(network.fusion_hr, 0, point), (network.fusion_out, 0, point)]
    channels = min(nf, network.describe().channels, network.options["out_nc"])
    carries = [(channels * part, network.head, network.slices * part, point), *((channels, *layer) for layer in path)]
    for count, layer, source, profile in carries:
        for channel in range(count):
            layer.weight[channel] *= 0.05
            layer.weight[channel, source + channel] = torch.outer(profile, profile)
    network.trunk_end.weight[: channels * part] *= 0.05
    for block in network.fusion_block.children():
        block.conv5.weight *= 0.3
