"""Keys of "path", "train" and "logger"."""

from __future__ import annotations

from dataclasses import dataclass

from .keys import ours, seed
from .kinds import Flag, ListOf, Number, PathText, Text, Whole

POSITIVE = Number(above=0)
WEIGHT = Number(0)
MOMENTUM = Number(0, below=1)
CRITERION = Text(("l1", "l2"))
NO_PENALTY = (
    "the public code's gradient penalty does not work and is undefined for the second discriminator; "
    "choose lsgan or vanilla"
)


@dataclass(frozen=True)
class PathOptions:
    """Where everything is."""

    root: str = seed(
        PathText(),
        ".",
        "Folder of all runs: experiments/NAME, results/NAME and tb_logger/NAME lie in it.",
        resumable=True,
    )
    pretrain_model_G: str | None = seed(
        PathText(),
        None,
        "Weights to begin with: a model, or a checkpoint of SPSR or RRDB. null: none; a test then takes the best model "
        "of the run of this name.",
        resumable=True,
    )
    resume_state: str | None = seed(
        PathText(),
        None,
        'Training state to go on from: a file of training_state/, or "auto" for the newest that is intact.',
        resumable=True,
    )
    feature_weights: str | None = ours(
        PathText(), None, "File with VGG19's weights; needed where train.feature_weight is above 0.", resumable=True
    )
    public_data: str | None = ours(PathText(), None, "Folder of the public scans that datasets name.", resumable=True)


@dataclass(frozen=True)
class TrainOptions:
    """Losses, optimisers and schedule."""

    lr_G: float = seed(POSITIVE, 1e-4, "Learning rate of the generator (Adam).")
    lr_G_grad: float = seed(
        POSITIVE, 1e-4, "Learning rate of its gradient branch; honoured, unlike in the public code."
    )
    weight_decay_G: float = seed(WEIGHT, 0.0, "Weight decay of the generator.", null=0.0)
    weight_decay_G_grad: float = seed(WEIGHT, 0.0, "Weight decay of its gradient branch.", null=0.0)
    beta1_G: float = seed(MOMENTUM, 0.9, "Adam's first decay for the generator; the second is 0.999.")
    beta1_G_grad: float = seed(MOMENTUM, 0.9, "Adam's first decay for its gradient branch.")
    lr_D: float = seed(POSITIVE, 1e-4, "Learning rate of both discriminators.")
    weight_decay_D: float = seed(WEIGHT, 0.0, "Weight decay of both discriminators.", null=0.0)
    beta1_D: float = seed(MOMENTUM, 0.9, "Adam's first decay for both discriminators.")
    lr_scheme: str = seed(
        Text(("MultiStepLR", "Cosine")), "MultiStepLR", "Schedule: steps (lr_steps), or a half cosine down to 0."
    )
    lr_steps: tuple[int, ...] = seed(
        ListOf(Whole(1), ascending=True),
        (50000, 100000, 200000, 300000),
        "Iterations after which the learning rates are multiplied by lr_gamma.",
        null=(),
    )
    lr_gamma: float = seed(Number(above=0, maximum=1), 0.5, "Factor of lr_steps.")
    lr_warmup_iters: int = ours(Whole(0), 0, "Iterations over which the learning rates rise from 0.", null=0)

    pixel_criterion: str = seed(CRITERION, "l1", "Difference of SR and HR: l1 (absolute) or l2 (squared).")
    pixel_weight: float = seed(WEIGHT, 0.3, "Weight of that difference.", null=0.0)
    feature_criterion: str = seed(CRITERION, "l1", "Difference of VGG19's features of SR and HR.")
    feature_weight: float = seed(
        WEIGHT, 1.0, "Weight of that difference; above 0 it needs path.feature_weights.", null=0.0
    )
    gan_type: str = seed(
        Text(("vanilla", "lsgan"), {"wgan-gp": NO_PENALTY, "wgan": NO_PENALTY}), "lsgan", "Form of both GAN losses."
    )
    gan_weight: float = seed(WEIGHT, 5e-3, "Weight of the GAN loss on images.", null=0.0)
    gan_relativistic: bool = ours(
        Flag(), True, "Compare each image with the mean of the other kind (SPSR) instead of judging it alone."
    )
    gradient_pixel_weight: float = seed(
        WEIGHT, 1e-2, "Weight of the squared difference of the gradient maps of SR and HR.", null=0.0
    )
    gradient_gan_weight: float = seed(WEIGHT, 5e-3, "Weight of the GAN loss on gradient maps.", null=0.0)
    gradient_padding: int | None = ours(
        Text((1, 2)),
        None,
        "Padding of the losses' gradient maps: 1 keeps their size; null: 1 with the U-Net, 2 with the VGG, as SPSR.",
    )
    pixel_branch_criterion: str = seed(
        CRITERION, "l1", "Difference of the gradient branch's map and HR's gradient map."
    )
    pixel_branch_weight: float = seed(WEIGHT, 5e-1, "Weight of that difference.", null=0.0)
    Branch_pretrain: bool = seed(
        Flag(), False, "1: before iteration Branch_init_iters only the fusion layers are trained, as in SPSR."
    )
    Branch_init_iters: int = seed(Whole(0), 5000, "See Branch_pretrain; without it, unused.")
    warmup_iters: int = ours(
        Whole(0),
        0,
        "Iterations with the pixel and branch losses alone (no gradient, feature or GAN loss), before the "
        "discriminators come in.",
        null=0,
    )
    D_update_ratio: int = ours(
        Whole(1), 1, "The generator is updated in every so many iterations, counted from the end of warmup_iters."
    )
    D_init_iters: int = ours(
        Whole(0), 0, "The generator is not updated in the first so many iterations after warmup_iters."
    )

    manual_seed: int | None = seed(
        Whole(0), 6, "Seed of all randomness; null: one is drawn, and recorded in the run's folder.", null=None
    )
    niter: int = seed(Whole(1), 500000, "Iterations in all.")
    val_freq: int = seed(Whole(1), 5000, "Iterations between validations.")
    ema_decay: float | None = ours(
        Number(above=0, below=1),
        None,
        "Decay of a running mean of the generator's weights, which is then validated and exported; null: none.",
    )
    precision: str = ours(
        Text(("float32", "bfloat16", "float16")), "float32", "Arithmetic of the networks; the short ones on CUDA only."
    )
    grad_clip: float | None = ours(POSITIVE, None, "Largest norm of a network's gradient; null: unlimited.")
    deterministic: bool = ours(Flag(), True, "The same run gives the same numbers; slower on CUDA.")


@dataclass(frozen=True)
class LoggerOptions:
    """What is written while a run goes on."""

    print_freq: int = seed(
        Whole(1), 100, "Iterations between lines of the log, the CSV and TensorBoard.", resumable=True
    )
    save_checkpoint_freq: int = seed(Whole(1), 5000, "Iterations between saved states and models.", resumable=True)
    keep_last: int = ours(Whole(1), 3, "How many of them are kept, beside the best model.", resumable=True)
    val_slices: int = ours(Whole(1), 16, "Slices of files that each validation measures, evenly spread over all.")
    val_images: int = ours(Whole(0), 4, "Pictures that each validation writes.", resumable=True)
