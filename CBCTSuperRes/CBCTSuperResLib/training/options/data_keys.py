"""Keys of the blocks within "datasets"."""

from __future__ import annotations

from dataclasses import dataclass, field

from .keys import ours, seed
from .kinds import Flag, ListOf, Number, Paths, PathText, Table, Text, Whole


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
