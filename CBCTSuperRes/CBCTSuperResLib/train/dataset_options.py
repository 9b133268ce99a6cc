"""The options of the images that are trained on, validated and tested with: the blocks within "datasets"."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..networks.options import option


@dataclass(frozen=True)
class DatasetOptions:
    """One set of images; the keys that train, val and test_* share.

    `phase` is "train", "val" or "test": what the block is for.
    """

    name: str | None = option(None, "Name in reports and of the results' folder; null: the block's own key.", seed=True)
    mode: str = option(
        "LRHR",
        "LRHR: real pairs. HR: only HR images, LR are simulated. A test may also have LR alone (mode LRHR, no HR).",
        seed=True,
        choices=("LRHR", "HR"),
    )
    dataroot_HR: tuple[str, ...] = option(
        (),
        "High-resolution images: folders of 16-bit TIFF or PNG slices, or volumes (NRRD, NIfTI, MHA, DICOM folder).",
        seed=True,
        path=True,
    )
    dataroot_LR: tuple[str, ...] = option(
        (),
        "Low-resolution images, paired with HR by file name, as many roots as HR has. Only in mode LRHR.",
        seed=True,
        path=True,
    )
    dataroot_mask: tuple[str, ...] = option(
        (),
        "Masks of a test's HR volumes, paired by name: voxels above 0 are measured. Without: all that is not blank. "
        "In the training of model srcyclegan: masks of the fine images, see dataroot_mask_LR.",
        path=True,
    )
    subset_file: str | None = option(
        None,
        "Text file, one image name per line (with or without folder and ending): only these HR images are used, and "
        "in mode LRHR their partners. For volumes, names of volumes.",
        seed=True,
        path=True,
    )
    normalization_range: tuple[float, float] | None = option(
        None,
        "Grey values of 0 and 1; values outside are clipped. val and test take train's where they set none. "
        "null: the whole range of integer images; real-valued images must then lie within 0 to 1.",
        seed=True,
        ascending=True,
    )
    axis: str = option(
        "axial", "Direction in which volumes are cut into slices.", choices=("axial", "coronal", "sagittal", "all")
    )
    slices: tuple[int, int] | None = option(
        None,
        "[first, last): which axial slices k of each volume, whichever way it is cut; null: all.",
        minimum=0,
        ascending=True,
    )
    degradation: str = option(
        "bicubic",
        "How LR is simulated in mode HR: antialiased bicubic, or a random scanner (blur, shift, correlated noise).",
        choices=("bicubic", "physical"),
    )
    degradation_options: dict = option({}, "Changes to the ranges of the physical degradation.")
    procedural: int = option(
        0, "Number of computer-drawn HR slices (volumes, for networks of blocks) mixed in; only in mode HR.", minimum=0
    )
    procedural_seed: int = option(0, "Seed of the computer-drawn slices.", minimum=0)
    procedural_set: int = option(
        1,
        "Which slices are drawn: 1, those of version 0.1.0; 2, also enamel and dentin with cracks, plates thinner than "
        "a pixel, and half of the slices with a part of the window only.",
        choices=(1, 2),
    )
    public: tuple[str, ...] = option(
        (), "Names of public scans from sources.json, looked for in path.public_data; only in mode HR."
    )
    patient_pattern: str | None = option(
        None,
        "Regular expression with one group that finds the patient in a path; training refuses patients that are in "
        "both train and val. val takes train's where it sets none.",
    )
    cache_gb: float | None = option(
        None,
        "Memory for decoded images, in GB; more than that lies in a mapped file. null: a quarter of what is free.",
        minimum=0,
        resumable=True,
    )
    phase: str = field(default="train", compare=False)


@dataclass(frozen=True)
class TrainDatasetOptions(DatasetOptions):
    """The images that are trained on."""

    dataroot_mask_LR: tuple[str, ...] = option(
        (),
        "Masks of the coarse images of model srcyclegan, paired by name, on their grid: patches are centred on pixels "
        "above 0; dataroot_mask those of the fine ones.",
        path=True,
    )
    use_shuffle: bool = option(True, "Draw the images in a new random order every epoch.", seed=True)
    n_workers: int = option(8, "Threads that read and prepare images; 0: none.", seed=True, minimum=0, resumable=True)
    batch_size: int = option(
        32,
        "Patches per step, over all GPUs and processes; steps too large for the memory are accumulated.",
        seed=True,
        minimum=1,
    )
    micro_batch: int | None = option(
        None, "Patches computed at a time; divides the batch of a process. null: as many as fit.", minimum=1, null=None
    )
    HR_size: int = option(
        128,
        "Edge of the HR patches, in pixels: a multiple of scale (of scale times network_G.unshuffle), of 8 for "
        "discriminator_unet_128, and 128 to 159 for discriminator_vgg_128.",
        seed=True,
        minimum=1,
    )
    block_size: tuple[int, int, int] | None = option(
        None,
        "HR voxels (i, j, k) of the blocks that networks of volumes see; null: HR_size along each axis.",
        minimum=1,
    )
    block_step: tuple[int, int, int] | None = option(
        None,
        "HR voxels (i, j, k) between neighbouring blocks, which then cover each volume and all come once in an epoch; "
        "null: blocks at random places.",
        minimum=1,
    )
    use_flip: bool = option(True, "Flip half of the patches left to right.", seed=True)
    use_rot: bool = option(
        True,
        "Flip half of the patches upside down and transpose half: with use_flip, all eight orientations.",
        seed=True,
    )
    use_contrast: bool = option(
        True, "Random contrast, brightness and gamma, each for half of the pairs, the same for LR and HR.", seed=True
    )
    procedural_share: float | None = option(
        None,
        "Share of the patches that are computer-drawn; null: as their number among the images says.",
        minimum=0,
        maximum=1,
    )
    scanner_window: tuple[float, float] | None = option(
        None,
        "Scanner's grey values that 0 and 65535 in the LR images stand for, as prepare writes them: the model's card "
        "then gives its window in these. null: the images hold the scanner's own.",
        ascending=True,
    )

    @property
    def block_shape(self) -> tuple[int, int, int]:
        """HR voxels (k, j, i) of a block."""
        return self.block_size[::-1] if self.block_size else (self.HR_size,) * 3
