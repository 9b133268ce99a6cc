"""How the recipes' optimisers are made.

The discriminators that "network_D" can name.

The feature network's weights, from a file that the user names.

UNetSPSR: pixels, features, gradients and two discriminators (Ma et al., SPSR, 2020, section 3.3).

The discriminators are Real-ESRGAN's U-Nets, one for images and one for their gradient maps. One step goes: the
generator's update, against the discriminators as they are; then each discriminator's, with the images from before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from ...core.digest import file_sha256
from ...core.errors import ModelError, OptionError
from ...networks import DISCRIMINATORS, NETWORKS, build_network
from ...networks.blocks import gradient_map
from ...networks.options import NoOptions
from ...networks.vgg import VGG19
from ..data.batches import Batch
from ..data.source import TrainingSource, open_images, open_source
from ..options import DiscriminatorOptions, TrainingOptions
from ..step import Steps
from ..validation import Validator
from .gan import DISTANCES, VERDICTS, Adversary, Persuasion, precise
from .initial import begin_as_interpolation
from .recipe import Recipe, Use

BETA2 = 0.999


def adam(groups: Sequence[dict]) -> Adam:
    """Adam (Kingma and Ba, 2015), in one pass over all weights where this torch can do that on their device."""
    try:
        return Adam(groups, fused=True)
    except RuntimeError:
        return Adam(groups)


def build_discriminator(block: DiscriminatorOptions) -> nn.Module:
    """A new network with its initial weights; the U-Net keeps torch's usual ones, as Real-ESRGAN does."""
    return build_network(block.network, **asdict(block.options))


PUBLISHED_HASH = "dcbb9e9d"
ADDRESS = f"https://download.pytorch.org/models/vgg19-{PUBLISHED_HASH}.pth"
ADVICE = (
    f"Download {ADDRESS} (548 MiB) and name it in path.feature_weights (or with --feature-weights FILE), "
    "or train without it: train.feature_weight 0."
)


def load_vgg19(path: str | Path | None) -> VGG19:
    """VGG19 with the weights of torchvision's file.

    Parameters
    ----------
    path : path-like or None
        torchvision's vgg19-dcbb9e9d.pth. A file of another name NAME-HASH.pth is checked against its own hash.

    Raises
    ------
    OptionError
        If there is no path or no such file.
    ModelError
        If the file is damaged or not a VGG19's.
    """
    if not path:
        raise OptionError(
            "The feature loss (train.feature_weight > 0) needs VGG19's weights, and no file is named.", ADVICE
        )
    path = Path(path)
    if not path.is_file():
        raise OptionError(f"The file with VGG19's weights, {path}, does not exist.", ADVICE)
    _check_hash(path)
    network = VGG19()
    network.load_state_dict(_weights(path, network))
    return network


def _check_hash(path: Path) -> None:
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    expected, found = named[1] if named else PUBLISHED_HASH, file_sha256(path)
    if not found.startswith(expected):
        raise ModelError(
            f"{path} is not the file it should be: its SHA-256 begins with {found[:8]}, not with {expected}.", ADVICE
        )


def _weights(path: Path, network: VGG19) -> dict[str, Tensor]:
    from ...importers.checkpoint import read_checkpoint

    found = read_checkpoint(path).tensors
    expected = network.state_dict()
    wrong = [name for name, tensor in expected.items() if name not in found or found[name].shape != tensor.shape]
    if wrong:
        raise ModelError(f"{path} holds no VGG19: {', '.join(wrong[:4])} missing or of another shape.", ADVICE)
    return {name: found[name] for name in expected}


BRANCH, FUSION = "branch_", "fusion_"  # how the names of the generator's parts begin


@dataclass
class Part:
    """One micro-batch during a step; what each discriminator sees of it is filed under its role."""

    low: Tensor
    high: Tensor
    real: dict[str, Tensor]
    fake: dict[str, Tensor] = field(default_factory=dict)


class UNetSPSRRecipe(Recipe):
    """Networks, losses and step of "model": "unetspsr".

    Terms of weight 0 are not computed, and a discriminator whose term has weight 0 does not exist. Until
    `train.warmup_iters` the pixel and branch losses train the generator alone and the discriminators are untouched.
    `Branch_pretrain` has its legacy meaning: before
    `Branch_init_iters` the generator's updates change only the fusion layers.

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
        self._distance = {
            "pixel": DISTANCES[train.pixel_criterion],
            "feature": DISTANCES[train.feature_criterion],
            "branch": DISTANCES[train.pixel_branch_criterion],
        }
        gan_weights = {"D": train.gan_weight, "D_grad": train.gradient_gan_weight}
        self._blocks = {role: options.network_D for role, weight in gan_weights.items() if weight > 0}
        self._padding = options.network_D.options.gradient_padding
        verdict = VERDICTS[train.gan_type]
        self._adversaries = [Adversary(role, gan_weights[role], verdict, relativistic=True) for role in self._blocks]
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
        if self.may_be_in_parts:
            return
        if processes > 1 and device == "cpu":
            why, instead = "several processes on the CPU", "one process"
        elif micro_batches > 1:
            why, instead = "a batch that is computed in parts", "a batch that fits into memory"
        else:
            return
        raise OptionError(
            f"discriminator_vgg_128 has batch norm, which needs the whole batch at once and not {why}.",
            f"Use discriminator_unet_128, or {instead}.",
        )

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
        return {name: torch.rand(images, *shape) for name, shape in self._shapes.items()}

    @property
    def _shapes(self) -> dict[str, tuple[int, int, int]]:
        edge, network = self._options.datasets["train"].HR_size, self._options.network_G
        small, channels = edge // self._options.scale, network.channels * (2 * network.slices + 1)
        return {"LR": (channels, small, small), "HR": (network.out_channels, edge, edge)}

    @property
    def may_be_in_parts(self) -> bool:
        """Batch norm needs the whole batch at once."""
        return not any(block.options.has_batch_norm for block in self._blocks.values())

    def uses(self, micro_batches: int, *, in_warm_up: bool = False) -> dict[str, Use]:
        """Generator: forward, backward. Discriminators: that in its update, twice that in their own. Relativistic
        losses over several parts need all outputs beforehand.
        """
        network, ahead = self._options.network_G, micro_batches > 1
        low, high = self._shapes["LR"], self._shapes["HR"]
        generator = NETWORKS[network.network].path, network.options, low
        if in_warm_up:
            return {"G": Use(*generator, passes=3)}
        uses = {"G": Use(*generator, passes=3 + (ahead and bool(self._blocks)))}
        channels, edge, _ = high
        for role, block in self._blocks.items():
            seen = edge + (2 * self._padding - 2 if role == "D_grad" else 0)
            path = DISCRIMINATORS[block.network].path
            uses[role] = Use(path, block.options, (channels, seen, seen), passes=9 + 3 * ahead)
        if self.frozen:
            path = f"{VGG19.__module__}:{VGG19.__name__}"
            uses["VGG19"] = Use(path, NoOptions(), high, passes=3, trained=False)
        return uses

    def build(self) -> dict[str, nn.Module]:
        """New networks with their initial weights, drawn from torch's global generator: "G", "D", "D_grad"."""
        networks = {"G": self._generator()}
        for role, block in self._blocks.items():
            networks[role] = build_discriminator(block)
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
        judge = {"lr": t.lr_D, "betas": (t.beta1_D, BETA2), "weight_decay": t.weight_decay_D}
        judges = {role: adam([{"params": list(networks[role].parameters()), **judge}]) for role in self._blocks}
        return {"G": adam(groups), **judges}

    def step(self, run: Steps) -> dict[str, Tensor]:
        """One iteration; the names of what is returned are SPSR's.

        Losses are returned with their weights: "l_g_*" of the generator, "l_g_total" their sum, "l_d_*" of the
        discriminators; further "D_real" and "D_fake", the mean outputs, and "D_gap", their difference, which alone has
        a meaning where losses are relativistic. Names of the discriminator of gradient maps end with "_grad".
        """
        self.check(1, run.batches[0]["LR"].device.type, len(run.batches))  # the loop may have made them smaller
        parts = [Part(batch["LR"], batch["HR"], self._views(batch["HR"])) for batch in run.batches]
        if run.number <= self._train.warmup_iters:
            return self._train_generator(run, parts, warm_up=True)
        logs = self._train_generator(run, parts)
        for adversary in self._adversaries:
            role = adversary.role
            found = adversary.train(run, [part.real[role] for part in parts], [part.fake[role] for part in parts])
            logs |= {name + _suffix(role): value for name, value in found.items()}
        return logs

    def _train_generator(self, run: Steps, parts: list[Part], warm_up: bool = False) -> dict[str, Tensor]:
        logs: dict[str, Tensor] = {}
        with run.update("G") as update, self._fusion_alone(run):
            persuasions = {} if warm_up else self._persuasions(run, parts)
            for number, part in enumerate(parts, start=1):
                output = self._enlarge(run, run.networks["G"], part.low)
                views = self._views(output["sr"])
                part.fake = {role: view.detach() for role, view in views.items()}
                terms = self._terms(run, part, output, views, warm_up)
                for name, term in terms.items():
                    logs[name] = logs.get(name, 0) + term.detach() / len(parts)
                losses = [*terms.values(), *(p.loss(views[role]) for role, p in persuasions.items())]
                update.backward(sum(losses) / len(parts), last=number == len(parts))
        logs |= {f"l_g_gan{_suffix(role)}": persuasion.value for role, persuasion in persuasions.items()}
        return {**logs, "l_g_total": sum(logs.values())}

    def _terms(
        self, run: Steps, part: Part, output: Mapping[str, Tensor], views: Mapping[str, Tensor], warm_up: bool
    ) -> dict[str, Tensor]:
        """The losses of one part that need no discriminator, with their weights."""
        t, terms = self._train, {}
        if t.pixel_weight > 0:
            terms["l_g_pix"] = t.pixel_weight * self._distance["pixel"](output["sr"], part.high)
        if t.pixel_branch_weight > 0:
            distance = self._distance["branch"](output["branch"], self._branch_target(part))
            terms["l_g_pix_grad_branch"] = t.pixel_branch_weight * distance
        if t.feature_weight > 0 and not warm_up:
            terms["l_g_fea"] = t.feature_weight * self._feature_distance(run, output["sr"], part.high)
        if t.gradient_pixel_weight > 0 and not warm_up:
            terms["l_g_pix_grad"] = t.gradient_pixel_weight * F.mse_loss(views["D_grad"], part.real["D_grad"])
        return terms

    def _feature_distance(self, run: Steps, sr: Tensor, high: Tensor) -> Tensor:
        network = self.frozen["feature"]
        with run.autocast():
            with torch.no_grad():
                expected = network(high)
            found = network(sr)
        return self._distance["feature"](precise(found), precise(expected))

    def _branch_target(self, part: Part) -> Tensor:
        """HR's gradient map of HR's size, which is the inner part of the one with wider padding."""
        if "D_grad" not in part.real:
            return gradient_map(part.high)
        return part.real["D_grad"] if self._padding == 1 else part.real["D_grad"][..., 1:-1, 1:-1]

    def _views(self, image: Tensor) -> dict[str, Tensor]:
        """What the discriminators see of an image: itself and its gradient map, which a loss compares as well."""
        if "D_grad" in self._blocks or self._train.gradient_pixel_weight > 0:
            return {"D": image, "D_grad": gradient_map(image, self._padding)}
        return {"D": image}

    def _persuasions(self, run: Steps, parts: list[Part]) -> dict[str, Persuasion]:
        found = {a.role: a.persuade(run, [part.real[a.role] for part in parts]) for a in self._adversaries}
        if any(persuasion.needs_all_fakes for persuasion in found.values()):
            self._enlarge_without_gradients(run, parts)
            for role, persuasion in found.items():
                persuasion.look_ahead([part.fake[role] for part in parts])
        return found

    @torch.no_grad()
    def _enlarge_without_gradients(self, run: Steps, parts: list[Part]) -> None:
        for part in parts:
            part.fake = self._views(self._enlarge(run, run.networks["G"], part.low)["sr"])

    @staticmethod
    def _enlarge(run: Steps, network: nn.Module, low: Tensor) -> dict[str, Tensor]:
        with run.autocast():
            output = network(low)
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

    def _generator(self) -> nn.Module:
        block = self._options.network_G
        try:
            network = build_network(block.network, **asdict(block.options))
        except ValueError as error:
            raise OptionError(f"network_G: {error}") from None
        if block.initial == "interpolation" and block.network == "unetspsr":
            begin_as_interpolation(network)
        return network


def _suffix(role: str) -> str:
    return role.removeprefix("D")
