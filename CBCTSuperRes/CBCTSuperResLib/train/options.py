"""Keys of "card": what a model file says about itself in words.

Keys of the blocks within "datasets".

Keys of "network_G" and "network_D".

Keys of "path", "train" and "logger".

The options of a training or test as a tree of frozen dataclasses, named as the keys of the JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .option_kinds import (
    DeviceNumbers,
    Flag,
    ListOf,
    Number,
    OnlyNull,
    Paths,
    PathText,
    Table,
    Text,
    Whole,
    keys_of,
    ours,
    seed,
    shown,
    write_section,
)


@dataclass(frozen=True)
class CardOptions:
    """Texts of the model card; what is left out is made from the run."""

    name: str | None = ours(Text(), None, "Short name by which the model is chosen; null: the run's.", resumable=True)
    title: str | None = ours(Text(), None, "One line for lists.", resumable=True)
    summary: str | None = ours(Text(), None, "A few sentences: what the model is and does.", resumable=True)
    limits: str | None = ours(Text(), None, "What the model must not be used for.", resumable=True)
    licence: str | None = ours(Text(), None, "Licence of the weights.", resumable=True)
    voxel_size_mm: tuple[float, float] | None = ours(
        ListOf(Number(above=0), 2, ascending=True),
        None,
        "Smallest and largest voxel size of the scans that the model is for; null: those of the LR data.",
        resumable=True,
    )


@dataclass(frozen=True)
class DatasetOptions:
    """One set of images; the keys that train, val and test_* share.

    `phase` is "train", "val" or "test": what the block is for.
    """

    name: str | None = seed(Text(), None, "Name in reports and of the results' folder; null: the block's own key.")
    mode: str = seed(
        Text(("LRHR", "HR")),
        "LRHR",
        "LRHR: real pairs. HR: only HR images, LR are simulated. A test may also have LR alone (mode LRHR, no HR).",
    )
    dataroot_HR: tuple[str, ...] = seed(
        Paths(),
        (),
        "High-resolution images: folders of 16-bit TIFF or PNG slices, or volumes (NRRD, NIfTI, MHA, DICOM folder).",
    )
    dataroot_LR: tuple[str, ...] = seed(
        Paths(), (), "Low-resolution images, paired with HR by file name, as many roots as HR has. Only in mode LRHR."
    )
    subset_file: str | None = seed(
        PathText(),
        None,
        "Text file, one image name per line (with or without folder and ending): only these HR images are used, and "
        "in mode LRHR their partners. For volumes, names of volumes.",
    )
    normalization_range: tuple[float, float] | None = seed(
        ListOf(Number(), 2, ascending=True),
        None,
        "Grey values of 0 and 1; values outside are clipped. val and test take train's where they set none. "
        "null: the whole range of integer images; real-valued images must then lie within 0 to 1.",
    )
    axis: str = ours(
        Text(("axial", "coronal", "sagittal", "all")), "axial", "Direction in which volumes are cut into slices."
    )
    slices: tuple[int, int] | None = ours(
        ListOf(Whole(0), 2, ascending=True),
        None,
        "[first, last): which axial slices k of each volume, whichever way it is cut; null: all.",
    )
    degradation: str = ours(
        Text(("bicubic", "physical")),
        "bicubic",
        "How LR is simulated in mode HR: antialiased bicubic, or a random scanner (blur, shift, correlated noise).",
    )
    degradation_options: dict = ours(Table(), {}, "Changes to the ranges of the physical degradation.")
    clip_lr: bool = ours(Flag(), True, "Clip simulated LR to 0 to 1 (bicubic overshoots at edges).")
    procedural: int = ours(Whole(0), 0, "Number of computer-drawn HR slices mixed in; only in mode HR.")
    procedural_seed: int = ours(Whole(0), 0, "Seed of the computer-drawn slices.")
    public: tuple[str, ...] = ours(
        ListOf(Text()), (), "Names of public scans from sources.json, looked for in path.public_data; only in mode HR."
    )
    patient_pattern: str | None = ours(
        Text(),
        None,
        "Regular expression with one group that finds the patient in a path; training refuses patients that are in "
        "both train and val. val takes train's where it sets none.",
    )
    cache_gb: float | None = ours(
        Number(0),
        None,
        "Memory for decoded images, in GB; more than that lies in a mapped file. null: a quarter of what is free.",
        resumable=True,
    )
    phase: str = field(default="train", compare=False)


@dataclass(frozen=True)
class TrainDatasetOptions(DatasetOptions):
    """The images that are trained on."""

    use_shuffle: bool = seed(Flag(), True, "Draw the images in a new random order every epoch.")
    n_workers: int = seed(Whole(0), 8, "Threads that read and prepare images; 0: none.", resumable=True)
    batch_size: int = seed(
        Whole(1), 32, "Patches per step, over all GPUs and processes; steps too large for the memory are accumulated."
    )
    micro_batch: int | None = ours(
        Whole(1), None, "Patches computed at a time; divides the batch of a process. null: as many as fit.", null=None
    )
    HR_size: int = seed(
        Whole(1),
        128,
        "Edge of the HR patches, in pixels: a multiple of scale, of 8 for discriminator_unet_128, and 128 to 159 for "
        "discriminator_vgg_128.",
    )
    use_flip: bool = seed(Flag(), True, "Flip half of the patches left to right.")
    use_rot: bool = seed(
        Flag(), True, "Flip half of the patches upside down and transpose half: with use_flip, all eight orientations."
    )
    use_contrast: bool = seed(
        Flag(), True, "Random contrast, brightness and gamma, each for half of the pairs, the same for LR and HR."
    )
    contrast: tuple[float, float] = ours(
        ListOf(Number(above=0), 2), (0.8, 1.2), "Range of use_contrast's factor about 0.5."
    )
    brightness: tuple[float, float] = ours(
        ListOf(Number(-1, 1), 2), (-0.1, 0.1), "Range of use_contrast's offset, in units of the window."
    )
    gamma: tuple[float, float] = ours(
        ListOf(Number(above=0), 2), (0.8, 1.25), "Range of use_contrast's exponent, drawn on a logarithmic scale."
    )
    procedural_share: float | None = ours(
        Number(0, 1), None, "Share of the patches that are computer-drawn; null: as their number among the images says."
    )
    scanner_window: tuple[float, float] | None = ours(
        ListOf(Number(), 2, ascending=True),
        None,
        "Scanner's grey values that 0 and 65535 in the LR images stand for, as prepare writes them: the model's card "
        "then gives its window in these. null: the images hold the scanner's own.",
    )


SPSR, RESIDUAL = "unetspsr_net", "residual_net"
UNET = "discriminator_unet_128"
VGG = "discriminator_vgg_128"
CHANNELS = Text((1, 3))


@dataclass(frozen=True)
class GeneratorOptions:
    """The network that is trained to enlarge."""

    which_model_G: str = seed(
        Text((SPSR, RESIDUAL)),
        SPSR,
        "Generator: SPSR's, with a gradient branch; or a plain residual network (ours), fast on computers without GPU.",
    )
    norm_type: str | None = seed(
        OnlyNull("the generator has no normalisation"), None, "Normalisation of the generator: it has none."
    )
    mode: str = seed(Text(("CNA",)), "CNA", "Order within a layer: convolution, (normalisation,) activation.")
    nf: int = seed(Whole(1), 64, "Features of the trunk and of the gradient branch.")
    nb: int = seed(Whole(4), 23, "Residual blocks of the trunk (RRDB in unetspsr_net).")
    in_nc: int = seed(
        Text((1, 3, 5, 7, 9)),
        1,
        "Channels of LR: 1 for grey, 3 for colour. With out_nc 1 also 3, 5, 7 or 9: so many neighbouring slices, of "
        "which the middle one is enlarged.",
    )
    out_nc: int = seed(CHANNELS, 1, "Channels of HR: as in_nc, or 1 with neighbouring slices.")
    gc: int = seed(
        Whole(1), 32, "Growth channels of the dense blocks; honoured, unlike in the public code. Not in residual_net."
    )
    branch_taps: tuple[int, ...] | None = ours(
        ListOf(Whole(1), 4, ascending=True),
        None,
        "After which blocks (from 1) the gradient branch takes in features. null: 5, 10, 15, 20 from nb = 20 on, else "
        "the quarters of nb.",
    )
    initial: str = ours(
        Text(("kaiming", "interpolation")),
        "kaiming",
        "Weights to begin with: random, or such that the untrained network interpolates, as residual_net always does.",
    )

    @property
    def slices(self) -> int:
        """Neighbouring slices on either side of the one that is enlarged."""
        return (self.in_nc - 1) // 2 if self.out_nc == 1 else 0

    @property
    def channels(self) -> int:
        """Channels of one slice of LR."""
        return 1 if self.slices else self.in_nc


@dataclass(frozen=True)
class DiscriminatorOptions:
    """A network that is trained to tell real images from enlarged ones."""

    which_model_D: str = seed(
        Text((UNET, VGG)), UNET, "Discriminator: Real-ESRGAN's U-Net with spectral norm, or SPSR's VGG of 128 pixels."
    )
    norm_type: str | None = seed(
        Text(("batch", "spectral")), None, "Normalisation of the VGG: batch. The U-Net always has spectral norm."
    )
    act_type: str | None = seed(Text(("leakyrelu",)), None, "Activation: leaky ReLU in both.")
    mode: str | None = seed(Text(("CNA",)), None, "Order within a layer of the VGG; the U-Net ignores it.")
    nf: int = seed(Whole(1), 64, "Features of the first layer.")
    in_nc: int = seed(CHANNELS, 1, "Channels: as network_G.out_nc.")
    skip_connection: bool = ours(Flag(), True, "Whether the U-Net adds its encoder's features to its decoder's.")


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


MODELS = ("unetspsr",)
SCALES = (1, 2, 3, 4, 8)


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that decides a training or a test.

    >>> options = read_options("train_unetspsr.json", ["train.feature_weight=0"])
    >>> options.network_G.nf, options.dataset("val").normalization_range, options.run_folder

    Attributes
    ----------
    datasets : dict of str to DatasetOptions
        By key: "train" (a `TrainDatasetOptions`), "val", "test_1" ...
    network_D_grad : DiscriminatorOptions or None
        None: as network_D; see `gradient_discriminator`.
    is_train : bool
        Whether they are for a training.
    notes : tuple of str
        What was accepted but has no effect, and the like; to be told once.
    """

    name: str = seed(Text(), "UNetSPSR", "Name of the experiment and of its folders.")
    use_tb_logger: bool = seed(Flag(), True, "Write TensorBoard files to path.root/tb_logger/NAME.", resumable=True)
    model: str = seed(Text(MODELS), "unetspsr", "Recipe: networks, losses and the order of a step.")
    scale: int = seed(Whole(1, 8), 2, f"Factor of enlargement: {', '.join(map(str, SCALES))}.")
    gpu_ids: tuple[int, ...] | None = seed(
        DeviceNumbers(Whole(0)),
        None,
        "CUDA devices to use, one process each; [] or null: the CPU; auto: the first CUDA device if there is one.",
        null=(),
        resumable=True,
    )
    device: str = ours(
        Text(("auto", "cpu", "cuda")), "auto", "auto: as gpu_ids says; cpu or cuda: in spite of it.", resumable=True
    )
    suffix: str | None = ours(Text(), None, "Added to the names of a test's results.", resumable=True)
    datasets: Mapping[str, DatasetOptions] = field(default_factory=dict, metadata={"sections": DatasetOptions})
    path: PathOptions = field(default_factory=PathOptions)
    network_G: GeneratorOptions = field(default_factory=GeneratorOptions)
    network_D: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    network_D_grad: DiscriminatorOptions | None = None
    train: TrainOptions = field(default_factory=TrainOptions)
    logger: LoggerOptions = field(default_factory=LoggerOptions)
    card: CardOptions = field(default_factory=CardOptions)
    is_train: bool = True
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def run_folder(self) -> Path:
        """Where a training writes: path.root/experiments/NAME."""
        return Path(self.path.root) / "experiments" / self.name

    @property
    def results_folder(self) -> Path:
        """Where a test writes: path.root/results/NAME."""
        return Path(self.path.root) / "results" / self.name

    @property
    def gradient_discriminator(self) -> DiscriminatorOptions:
        """The discriminator of gradient maps: network_D_grad, or network_D where that is absent."""
        return self.network_D_grad or self.network_D

    @property
    def gradient_padding(self) -> int:
        """train.gradient_padding, or what its null means."""
        return self.train.gradient_padding or (2 if self.gradient_discriminator.which_model_D == VGG else 1)

    @property
    def tests(self) -> tuple[str, ...]:
        """Keys of the test sets, sorted."""
        return tuple(sorted(key for key, dataset in self.datasets.items() if dataset.phase == "test"))

    def dataset(self, key: str) -> DatasetOptions | None:
        """A set of images with what it inherits from train, the window and the patients' pattern; None if absent."""
        dataset, train = self.datasets.get(key), self.datasets.get("train")
        if dataset is None or train is None or dataset is train:
            return dataset
        return replace(
            dataset,
            normalization_range=dataset.normalization_range or train.normalization_range,
            patient_pattern=dataset.patient_pattern or train.patient_pattern,
        )

    def to_json(self) -> dict:
        """Every key with its value; `read_options` gives the same options back."""
        values = write_section(self)
        if self.network_D_grad is None:
            values["network_D_grad"] = None
        return values

    def differences(self, other: TrainingOptions) -> list[str]:
        """What `other` changes, such as "train.lr_G: 0.0001 -> 0.0002".

        Keys that do not change a run's numbers (`Key.resumable`, such as print_freq) are left out.
        """
        before, after = _sections(self), _sections(other)
        found = []
        for prefix in dict.fromkeys([*before, *after]):
            if prefix not in after:
                found.append(f"{prefix[:-1]}: present -> absent")
            elif prefix not in before:
                found.append(f"{prefix[:-1]}: absent -> present")
            else:
                found += _changes(prefix, before[prefix], after[prefix])
        return found


def _sections(options: TrainingOptions) -> dict[str, Any]:
    """The blocks by the beginning of their keys; datasets with what they inherit."""
    sections = {
        "": options,
        **{f"datasets.{key}.": options.dataset(key) for key in options.datasets},
        "path.": options.path,
        "network_G.": options.network_G,
        "network_D.": options.network_D,
        "network_D_grad.": options.network_D_grad,
        "train.": options.train,
    }
    return {prefix: section for prefix, section in sections.items() if section is not None}


def _changes(prefix: str, old: Any, new: Any) -> Iterator[str]:
    for one, key in keys_of(old):
        before, after = getattr(old, one.name), getattr(new, one.name)
        left_open = key.null is None and None in (before, after)
        if before != after and not key.resumable and not left_open:
            yield f"{prefix}{one.name}: {shown(key.kind.write(before))} -> {shown(key.kind.write(after))}"


def section_type(path: tuple[str, ...]) -> type | None:
    """The dataclass of a section by its path, such as ("datasets", "val"); None if there is no such section."""
    types = {
        (): TrainingOptions,
        ("path",): PathOptions,
        ("network_G",): GeneratorOptions,
        ("network_D",): DiscriminatorOptions,
        ("network_D_grad",): DiscriminatorOptions,
        ("train",): TrainOptions,
        ("logger",): LoggerOptions,
        ("card",): CardOptions,
        ("datasets", "train"): TrainDatasetOptions,
    }
    if path in types:
        return types[path]
    return DatasetOptions if len(path) == 2 and path[0] == "datasets" and phase_of(path[1]) else None


def phase_of(key: str) -> str | None:
    """What a block within datasets is for; None if it has no name of ours."""
    phase = key.partition("_")[0]
    return phase if phase in ("train", "val", "test") and (phase == "test" or key == phase) else None
