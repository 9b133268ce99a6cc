"""What the block "train" holds: the keys of every training, and those that a recipe adds or has no use for.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

from ...networks.options import option

CRITERIA = ("l1", "l2")
NO_PENALTY = (
    "the public code's gradient penalty does not work and is undefined for the second discriminator; "
    "choose lsgan or vanilla"
)


@dataclass(frozen=True)
class TrainOptions:
    """Losses, optimisers and schedule."""

    lr_G: float = option(1e-4, "Learning rate of the generator (Adam).", seed=True, above=0)
    lr_G_grad: float = option(
        1e-4, "Learning rate of its gradient branch; honoured, unlike in the public code.", seed=True, above=0
    )
    weight_decay_G: float = option(0.0, "Weight decay of the generator.", seed=True, minimum=0, null=0.0)
    weight_decay_G_grad: float = option(0.0, "Weight decay of its gradient branch.", seed=True, minimum=0, null=0.0)
    beta1_G: float = option(
        0.9, "Adam's first decay for the generator; the second is 0.999.", seed=True, minimum=0, below=1
    )
    beta1_G_grad: float = option(0.9, "Adam's first decay for its gradient branch.", seed=True, minimum=0, below=1)
    lr_D: float = option(1e-4, "Learning rate of both discriminators.", seed=True, above=0)
    weight_decay_D: float = option(0.0, "Weight decay of both discriminators.", seed=True, minimum=0, null=0.0)
    beta1_D: float = option(0.9, "Adam's first decay for both discriminators.", seed=True, minimum=0, below=1)
    lr_scheme: str = option(
        "MultiStepLR",
        "Schedule: steps (lr_steps), or a half cosine down to 0.",
        seed=True,
        choices=("MultiStepLR", "Cosine"),
    )
    lr_steps: tuple[int, ...] = option(
        (50000, 100000, 200000, 300000),
        "Iterations after which the learning rates are multiplied by lr_gamma.",
        seed=True,
        minimum=1,
        ascending=True,
        null=(),
    )
    lr_gamma: float = option(0.5, "Factor of lr_steps.", seed=True, maximum=1, above=0)
    lr_warmup_iters: int = option(0, "Iterations over which the learning rates rise from 0.", minimum=0, null=0)

    pixel_criterion: str = option(
        "l1", "Difference of SR and HR: l1 (absolute) or l2 (squared).", seed=True, choices=CRITERIA
    )
    pixel_weight: float = option(0.3, "Weight of that difference.", seed=True, minimum=0, null=0.0)
    feature_criterion: str = option("l1", "Difference of VGG19's features of SR and HR.", seed=True, choices=CRITERIA)
    feature_weight: float = option(
        1.0, "Weight of that difference; above 0 it needs path.feature_weights.", seed=True, minimum=0, null=0.0
    )
    gan_type: str = option(
        "lsgan",
        "Form of both GAN losses, which compare each image with the mean of the other kind, as SPSR's.",
        seed=True,
        choices=("vanilla", "lsgan"),
        refused={"wgan-gp": NO_PENALTY, "wgan": NO_PENALTY},
    )
    gan_weight: float = option(5e-3, "Weight of the GAN loss on images.", seed=True, minimum=0, null=0.0)
    gradient_pixel_weight: float = option(
        1e-2, "Weight of the squared difference of the gradient maps of SR and HR.", seed=True, minimum=0, null=0.0
    )
    gradient_gan_weight: float = option(
        5e-3, "Weight of the GAN loss on gradient maps.", seed=True, minimum=0, null=0.0
    )
    pixel_branch_criterion: str = option(
        "l1", "Difference of the gradient branch's map and HR's gradient map.", seed=True, choices=CRITERIA
    )
    pixel_branch_weight: float = option(5e-1, "Weight of that difference.", seed=True, minimum=0, null=0.0)
    Branch_pretrain: bool = option(
        False, "1: before iteration Branch_init_iters only the fusion layers are trained, as in SPSR.", seed=True
    )
    Branch_init_iters: int = option(5000, "See Branch_pretrain; without it, unused.", seed=True, minimum=0)
    warmup_iters: int = option(
        0,
        "Iterations with the pixel and branch losses alone (no gradient, feature or GAN loss), before the "
        "discriminators come in.",
        minimum=0,
        null=0,
    )

    manual_seed: int | None = option(
        6,
        "Seed of all randomness; null: one is drawn, and recorded in the run's folder.",
        seed=True,
        minimum=0,
        null=None,
    )
    niter: int = option(500000, "Iterations in all.", seed=True, minimum=1)
    val_freq: int = option(5000, "Iterations between validations.", seed=True, minimum=1)
    ema_decay: float | None = option(
        None,
        "Decay of a running mean of the generator's weights, which is then validated and exported; null: none.",
        above=0,
        below=1,
    )
    precision: str = option(
        "float32",
        "Arithmetic of the networks: float16 on CUDA only; bfloat16 there and on processors that have it.",
        choices=("float32", "bfloat16", "float16"),
    )
    grad_clip: float | None = option(None, "Largest norm of a network's gradient; null: unlimited.", above=0)
    deterministic: bool = option(True, "The same run gives the same numbers; slower on CUDA.")

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """


def blur_range() -> Any:
    """The key `blur` of recipes that simulate coarse scans of volumes."""
    meaning = (
        "Standard deviation of the simulated scanner's blur along each axis, in LR voxels: the least and the largest, "
        "or the least, the usual and the largest."
    )
    return option((0.25, 0.6), meaning, minimum=0)


def noise_range() -> Any:
    """The key `noise` of the same recipes."""
    return option((0.0, 0.03), "Standard deviation of its noise, in units of the window.", minimum=0)


def noise_smooth_range() -> Any:
    """The key `noise_smooth` of the same recipes."""
    meaning = (
        "Standard deviation, in LR voxels, of the Gaussian that smooths the noise; drawn for all axes within slices, "
        "and once more across them."
    )
    return option((0.6, 0.6), meaning, minimum=0)


def val_size() -> Any:
    """The key `val_size` of the same recipes."""
    return option(64, "Edge of the block in the middle of each val volume that is measured.", minimum=16)


def check_ranges(options: TrainOptions, names: Sequence[str]) -> None:
    """Refuse ranges, the blur's among them, that fall.

    Raises
    ------
    ValueError
    """
    for name in names:
        low, high = getattr(options, name) or (0, 0)
        if low > high:
            raise ValueError(f"{name} must be the smaller and the larger number, not [{low:g}, {high:g}].")
    blur = list(options.blur)
    if len(blur) not in (2, 3) or blur != sorted(blur):
        raise ValueError(f"blur must be two or three numbers that do not fall, not {blur}.")


@dataclass(frozen=True)
class OneNetworkOptions(TrainOptions):
    """Of a recipe that trains one network by the difference of its images and the true ones, and has no other losses.

    What other recipes weigh is constant here, and no key.
    """

    lr_G_grad: ClassVar[float] = 1e-4
    weight_decay_G_grad: ClassVar[float] = 0.0
    beta1_G_grad: ClassVar[float] = 0.9
    lr_D: ClassVar[float] = 1e-4
    weight_decay_D: ClassVar[float] = 0.0
    beta1_D: ClassVar[float] = 0.9
    pixel_weight: ClassVar[float] = 1.0
    feature_criterion: ClassVar[str] = "l1"
    feature_weight: ClassVar[float] = 0.0
    gan_type: ClassVar[str] = "lsgan"
    gan_weight: ClassVar[float] = 0.0
    gradient_pixel_weight: ClassVar[float] = 0.0
    gradient_gan_weight: ClassVar[float] = 0.0
    pixel_branch_criterion: ClassVar[str] = "l1"
    pixel_branch_weight: ClassVar[float] = 0.0
    Branch_pretrain: ClassVar[bool] = False
    Branch_init_iters: ClassVar[int] = 0
    warmup_iters: ClassVar[int] = 0


@dataclass(frozen=True)
class ArSSRTrainOptions(OneNetworkOptions):
    """Of "model": "arssr", for networks of any real factor."""

    lr_steps: tuple[int, ...] = option(
        (62400, 124800, 187200, 249600, 312000),
        "Iterations after which the learning rates are multiplied by lr_gamma.",
        seed=True,
        minimum=1,
        ascending=True,
        null=(),
    )
    niter: int = option(780000, "Iterations in all.", seed=True, minimum=1)
    ss: int = option(
        8000,
        "Fine voxels of a sample that are compared, a cube of them; fewer where a block has fewer.",
        minimum=1,
    )
    scale_range: tuple[float, float] | None = option(
        None,
        "Smallest and largest factor that is drawn, uniformly in its logarithm; null: all that the network offers.",
        minimum=1,
    )
    scale_per_axis: bool = option(False, "Draw a factor for each axis of each sample, and not one for all three.")
    scale_mix: tuple[float, ...] | None = option(
        None,
        "Shares of the samples that are coarse across slices alone (thick slices), along all axes alike, within slices "
        "alone, along each axis by a factor of its own, and (a fifth number, if there are any) not at all: blurred and "
        "noisy voxels of the same size; null: all are as scale_per_axis says.",
        minimum=0,
    )
    spread: bool = option(
        False,
        "The voxels that are compared lie in even steps all over a block, not beside each other: more of a block is "
        "learnt from where factors are large.",
    )
    told_error: float = option(
        0.0,
        "How wrong the blur and noise are that the network is told, as in Apply they are estimates: the standard "
        "deviation of the logarithm of what they are multiplied by.",
        minimum=0,
    )
    block_slices: int | None = option(
        None, "LR slices of a block; null: as many as it has rows, HR_size / scale.", minimum=1
    )
    blur: tuple[float, ...] = blur_range()
    noise: tuple[float, float] = noise_range()
    noise_smooth: tuple[float, float] = noise_smooth_range()
    val_scales: tuple[float, ...] = option(
        (2.0, 3.0, 4.0), "Factors at which validation measures, those that the network offers.", minimum=1
    )
    val_size: int = val_size()

    def check(self) -> None:
        """Ranges go from the smaller to the larger number.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """
        check_ranges(self, ("scale_range", "noise", "noise_smooth"))
        if self.scale_mix is not None and (len(self.scale_mix) not in (4, 5) or sum(self.scale_mix) <= 0):
            raise ValueError("scale_mix must be four or five shares, of which one is above 0.")


@dataclass(frozen=True)
class SRGAN3DTrainOptions(TrainOptions):
    """Of "model": "srgan3d", for networks of blocks."""

    lr_G_grad: ClassVar[float] = 1e-4
    weight_decay_G_grad: ClassVar[float] = 0.0
    beta1_G_grad: ClassVar[float] = 0.9
    feature_criterion: ClassVar[str] = "l1"
    feature_weight: ClassVar[float] = 0.0
    gan_type: ClassVar[str] = "lsgan"
    gradient_pixel_weight: ClassVar[float] = 0.0
    gradient_gan_weight: ClassVar[float] = 0.0
    pixel_branch_criterion: ClassVar[str] = "l1"
    pixel_branch_weight: ClassVar[float] = 0.0
    Branch_pretrain: ClassVar[bool] = False
    Branch_init_iters: ClassVar[int] = 0

    pixel_criterion: str = option(
        "l2", "Difference of SR and HR: l1 (absolute) or l2 (squared).", seed=True, choices=CRITERIA
    )
    pixel_weight: float = option(1.0, "Weight of that difference.", seed=True, minimum=0, null=0.0)
    gradient_difference_weight: float = option(
        1.0, "Weight of the squared difference of the edges of SR and HR along each axis.", minimum=0, null=0.0
    )
    gan_weight: float = option(1e-3, "Weight of the GAN loss on images.", seed=True, minimum=0, null=0.0)
    real_label: tuple[float, float] = option(
        (0.7, 1.2), "Range of what the discriminator should say of real volumes; drawn in each step."
    )
    fake_label: tuple[float, float] = option((0.0, 0.3), "Range of what it should say of enlarged ones.")
    swapped_labels: float = option(
        0.1,
        "Share of the steps in which its labels are exchanged, so that it does not become too sure.",
        minimum=0,
        maximum=1,
    )
    blur: tuple[float, ...] = blur_range()
    noise: tuple[float, float] = noise_range()
    noise_smooth: tuple[float, float] = noise_smooth_range()
    val_size: int = val_size()

    def check(self) -> None:
        """Ranges go from the smaller to the larger number.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """
        check_ranges(self, ("real_label", "fake_label", "noise", "noise_smooth"))


def _term(weight: float, meaning: str) -> Any:
    return option(weight, f"Weight of the loss that {meaning}", minimum=0, null=0.0)


@dataclass(frozen=True)
class SRCycleGANTrainOptions(TrainOptions):
    """Of "model": "srcyclegan", for slices of two scanners without pairs; x is a coarse slice, y a fine one."""

    lr_G_grad: ClassVar[float] = 1e-4
    weight_decay_G: ClassVar[float] = 0.0
    weight_decay_G_grad: ClassVar[float] = 0.0
    beta1_G_grad: ClassVar[float] = 0.9
    weight_decay_D: ClassVar[float] = 0.0
    pixel_criterion: ClassVar[str] = "l1"
    pixel_weight: ClassVar[float] = 0.0
    feature_criterion: ClassVar[str] = "l1"
    feature_weight: ClassVar[float] = 0.0
    gan_type: ClassVar[str] = "lsgan"
    gradient_pixel_weight: ClassVar[float] = 0.0
    gradient_gan_weight: ClassVar[float] = 0.0
    pixel_branch_criterion: ClassVar[str] = "l1"
    pixel_branch_weight: ClassVar[float] = 0.0
    Branch_pretrain: ClassVar[bool] = False
    Branch_init_iters: ClassVar[int] = 0
    warmup_iters: ClassVar[int] = 0

    lr_G: float = option(2e-4, "Learning rate of both generators (Adam); 1e-5 as published.", seed=True, above=0)
    lr_D: float = option(2e-4, "Learning rate of both discriminators; 1e-5 as published.", seed=True, above=0)
    beta1_G: float = option(0.5, "Adam's first decay for the generators; the second is 0.999.", minimum=0, below=1)
    beta1_D: float = option(0.5, "Adam's first decay for the discriminators.", minimum=0, below=1)
    lr_scheme: str = option(
        "Linear",
        "Schedule: constant for the first half, then linearly down to 0; steps (lr_steps); or a half cosine down to 0.",
        seed=True,
        choices=("Linear", "MultiStepLR", "Cosine"),
    )
    fine_range: tuple[float, float] | None = option(
        None,
        "Grey values of the fine scanner (dataroot_HR) that become 0 and 1, as datasets.train.normalization_range "
        "are those of the coarse one; null: estimated.",
    )
    gan_weight: float = _term(1.0, "makes G x fool the discriminator of fine slices.")
    gan_coarse_weight: float = _term(1.0, "makes F y fool the discriminator of coarse slices.")
    cycle_coarse_weight: float = _term(1.0, "keeps x after the way there and back, F G x.")
    cycle_fine_weight: float = _term(1.0, "keeps y after the way there and back, G F y.")
    identity_fine_weight: float = _term(0.2, "keeps y, enlarged by G and averaged again.")
    identity_coarse_weight: float = _term(0.02, "keeps x, enlarged and reduced by F.")
    down_weight: float = _term(1.0, "keeps x in the averages of G x (down).")
    up_weight: float = _term(1.0, "keeps y near F y, each pixel repeated (up).")
    clinical_ssim_weight: float = _term(1.0, "keeps the structure of x in the averages of G x (clinical SSIM).")
    micro_ssim_weight: float = _term(1.0, "keeps the structure of y near F y, each pixel repeated (micro SSIM).")
    pool_size: int = option(50, "Earlier images that the discriminators also see; 0: none.", minimum=0)
    coarse_blur: float | None = option(
        None,
        "Standard deviation, in its pixels, of the coarse scanner's blur, with which F begins; null: estimated from "
        "the coarse slices. Needs network_G.residual.",
        minimum=0,
        maximum=2,
    )
    coarse_noise: float | None = option(
        None,
        "Standard deviation, as a share of the window, of the noise that is added to F y before it is judged and "
        "enlarged, so that F need not invent any, nor hide y in it; null: that of the coarse slices, estimated. As "
        "published: 0.",
        minimum=0,
        below=1,
    )
    as_published: bool = option(
        False,
        "Take SSIM of images from -1 to 1, the identity losses of whole patches, F of x itself, and add no noise.",
    )


@dataclass(frozen=True)
class SeedName:
    """Where a key of a recipe's original program stands among ours.

    Attributes
    ----------
    place : str
        Such as "train.lr_G".
    unit : str
        "" for the same value; "epochs" for a number of epochs, which becomes one of iterations; "milestones" for the
        epochs between two milestones, of which our key is the list.
    """

    place: str
    unit: str = ""


@dataclass(frozen=True)
class SeedNames:
    """The keys of a recipe's original program, which stand outside all blocks, as on its command line.

    Attributes
    ----------
    names : mapping of str to SeedName
    epoch_size : int
        Samples of an epoch, unless a key "epoch_size" beside them says otherwise.
    defaults : mapping of str to object
        What the original has where the key is left out, of those that decide over others: "epoch", "bs".
    """

    names: Mapping[str, SeedName]
    epoch_size: int = 1
    defaults: Mapping[str, int] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.names or name == "epoch_size"

    def translated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of our keys, by their places, that the original's mean.

        What is of no sensible type passes as it is, for the check of our key to refuse.
        """
        counts = {"epoch_size": self.epoch_size, **self.defaults, **given}
        found = {}
        for name, value in given.items():
            if name == "epoch_size":
                continue
            entry = self.names[name]
            if entry.unit and not all(map(_is_count, (value, counts["epoch_size"], counts["bs"]))):
                found[entry.place] = value
                continue
            if entry.unit == "epochs":
                value = value * ceil(counts["epoch_size"] / counts["bs"])
            elif entry.unit == "milestones":
                epochs = counts["epoch"] if _is_count(counts["epoch"]) else value
                value = [n * ceil(counts["epoch_size"] / counts["bs"]) for n in range(value, epochs, value)]
            found[entry.place] = value
        return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


ARSSR_NAMES = SeedNames(
    {
        "encoder_name": SeedName("network_G.encoder_name"),
        "decoder_depth": SeedName("network_G.decoder_depth"),
        "decoder_width": SeedName("network_G.decoder_width"),
        "feature_dim": SeedName("network_G.feature_dim"),
        "hr_data_train": SeedName("datasets.train.dataroot_HR"),
        "hr_data_val": SeedName("datasets.val.dataroot_HR"),
        "lr": SeedName("train.lr_G"),
        "lr_decay_epoch": SeedName("train.lr_steps", "milestones"),
        "epoch": SeedName("train.niter", "epochs"),
        "summary_epoch": SeedName("logger.save_checkpoint_freq", "epochs"),
        "bs": SeedName("datasets.train.batch_size"),
        "ss": SeedName("train.ss"),
        "gpu": SeedName("gpu_ids"),
    },
    epoch_size=4680,  # 780 scans, six patches of each
    defaults={"epoch": 2500, "bs": 15},
)


@dataclass(frozen=True)
class PerceptualTrainOptions(OneNetworkOptions):
    """Of "model": "perceptual", for networks of slices that may tell how sure they are."""

    pixel_criterion: ClassVar[str] = "l2"

    loss: str = option(
        "mse",
        "Difference of SR and HR: mse, the mean square of their pixels'; perceptual, that of their features in VGG16, "
        "whose weights path.feature_weights names.",
        choices=("mse", "perceptual"),
    )
    bars_alone: bool = option(
        False,
        "Train the log-variance alone, beside the finished image of path.pretrain_model_G, which stays as it is.",
    )
    lr_G: float = option(1e-3, "Learning rate of the generator (Adam).", seed=True, above=0)
    lr_scheme: str = option(
        "Cosine",
        "Schedule: steps (lr_steps), or a half cosine down to 0.",
        seed=True,
        choices=("MultiStepLR", "Cosine"),
    )
    niter: int = option(20000, "Iterations in all.", seed=True, minimum=1)
    val_freq: int = option(1000, "Iterations between validations.", seed=True, minimum=1)


PERCEPTUAL_PLACES = {
    "mode": "network_G.upsampling",
    "loss": "train.loss",
    "upscale_factor": "scale",
    "batch_size": "datasets.train.batch_size",
    "load_weight_dir": "path.pretrain_model_G",
    "save_weight_dir": "path.root",
    "save_result_dir": "path.root",
    "log_dir": "path.log_dir",
}
PERCEPTUAL_FOLDERS = {"train_data_dir": "train", "val_data_dir": "val", "test_data_dir": "test_1"}
PERCEPTUAL_OTHERS = ("LR_input_size", "init_epoch", "num_epoch", "HR_folder", "LR_folder", "epoch_size")


@dataclass(frozen=True)
class PerceptualNames(SeedNames):
    """The keys of the original command line, whose data lie in two folders of each data directory.

    An epoch is as many images as the HR folder holds, unless "epoch_size" says otherwise.
    """

    def __contains__(self, name: str) -> bool:
        return name in PERCEPTUAL_PLACES or name in PERCEPTUAL_FOLDERS or name in PERCEPTUAL_OTHERS

    def translated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `SeedNames.translated`."""
        found = {place: given[name] for name, place in reversed(PERCEPTUAL_PLACES.items()) if name in given}
        if found.get("path.pretrain_model_G") == "None":
            found["path.pretrain_model_G"] = None
        high, low = given.get("HR_folder", "bssfp"), given.get("LR_folder", "bssfp_lowres")
        for name, block in PERCEPTUAL_FOLDERS.items():
            if given.get(name) is not None:
                roots = (f"{given[name]}/{folder}" for folder in (high, low))
                found |= dict(
                    zip((f"datasets.{block}.dataroot_HR", f"datasets.{block}.dataroot_LR"), roots, strict=True)
                )
        size, factor = given.get("LR_input_size"), given.get("upscale_factor", 4)
        if size is not None:
            found["datasets.train.HR_size"] = size * factor if _is_count(size) and _is_count(factor) else size
        if given.get("num_epoch") is not None or given.get("init_epoch"):
            found["train.niter"] = self._iterations(given, found.get("datasets.train.dataroot_HR"))
        return found

    def _iterations(self, given: Mapping[str, Any], images: str | None) -> Any:
        """Those of the epochs from init_epoch on; what is no number of epochs passes as it is."""
        last, first, batch = given.get("num_epoch", 20), given.get("init_epoch", 0), given.get("batch_size", 48)
        size = given.get("epoch_size")
        if size is None and images and Path(images).is_dir():
            size = sum(1 for file in Path(images).iterdir() if not file.name.startswith("."))
        size = self.epoch_size if size is None else size
        if not (all(map(_is_count, (last, batch, size))) and isinstance(first, int) and 0 <= first < last):
            return last if not _is_count(last) else f"{first} to {last} epochs"
        return (last - first) * ceil(size / batch)


PERCEPTUAL_NAMES = PerceptualNames({}, epoch_size=1000)


SRGAN3D_PLACES = {
    "residual_blocks": "network_G.residual_blocks",
    "feature_size": "network_G.feature_size",
    "upsampling_factor": "scale",
    "subpixel_NN": "network_G.subpixel_NN",
    "nn": "network_G.nn",
    "restore": "path.resume_state",
    "checkpoint_dir_restore": "path.pretrain_model_G",
    "checkpoint_dir": "path.root",  # which holds predictions and volumes as well
    "path_prediction": "path.root",
    "path_volumes": "path.root",
}


@dataclass(frozen=True)
class SRGAN3DNames(SeedNames):
    """The keys of the original command line; of its folders, which are one here, checkpoint_dir goes before."""

    def translated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `SeedNames.translated`."""
        return {place: given[name] for name, place in reversed(SRGAN3D_PLACES.items()) if name in given}


SRGAN3D_NAMES = SRGAN3DNames({name: SeedName(place) for name, place in SRGAN3D_PLACES.items()})
