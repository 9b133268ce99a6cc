"""From the options of a data set to what is trained on, and to the whole images that are validated and tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import InputError
from ...scan.window import Window
from .batches import Batch, Source
from .drawn_slices import drawn_slices
from .estimated import EstimatedConditions
from .files import refuse_shared_patients
from .patches import (
    Augmentation,
    PairedPictures,
    Patches,
    SimulatedPictures,
    Simulation,
    make_simulation,
    middle_of,
    mixture_of,
)
from .pictures import Picture, PicturePair, PictureSet, entries_of, has_files, read_pictures
from .public import PublicSlices

if TYPE_CHECKING:
    from ..dataset_options import DatasetOptions, TrainDatasetOptions
    from ..options import TrainingOptions

USUAL_PATCH = 128


class TrainingSource:
    """A source with all that a run and a model card want to know of it.

    Parameters
    ----------
    source : Source
    window : Window
        Grey values of LR that become 0 and 1.
    facts : dict
        See `describe`.
    pairs : sequence of (Picture or None, Picture or None)
        (LR, HR) of the images that were read from files.
    clipped_share : float
        Of the grey values that the window clips.
    warnings : sequence of str
        Sentences for the log.
    output_window : Window, optional
        That of HR, where HR is another kind of image.
    close : callable, optional
        Frees what the source holds.
    """

    def __init__(
        self,
        source: Source,
        window: Window,
        facts: dict,
        *,
        pairs: Sequence[PicturePair] = (),
        clipped_share: float = 0.0,
        warnings: Sequence[str] = (),
        output_window: Window | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._facts = source, facts
        self.names, self.pairs, self.window, self.output_window = source.names, pairs, window, output_window
        self.clipped_share, self.warnings, self.close = clipped_share, list(warnings), close

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, images: Sequence[int], draws: Sequence[np.random.Generator]) -> Batch:
        return self._source.batch(images, draws)

    def describe(self) -> dict:
        """What is trained on, as JSON.

        Returns
        -------
        dict
            "mode", "images" (numbers by kind), "files" (for each role its types, voxel sizes in mm and the SHA256 of
            its pixels), "augmentation", "memory", "window", "clipped_share"; where it applies "degradation",
            "procedural_seed", "public" and "output_window".
        """
        facts = {**self._facts, "window": [self.window.lo, self.window.hi], "clipped_share": self.clipped_share}
        if self.output_window:
            facts["output_window"] = [self.output_window.lo, self.output_window.hi]
        return facts


def open_source(dataset: TrainDatasetOptions, options: TrainingOptions) -> TrainingSource:
    """Patches of pairs of pictures (mode LRHR), or of HR pictures whose LR is simulated (mode HR).

    Fewer images than a batch are a warning, not an error: batches go on through the epochs, so that nothing is lost,
    and a single volume or a few large slices hold many different patches.

    Raises
    ------
    InputError, OptionError, ResourceError
        If there is nothing to train on, or it is not what the options say; see `read_pictures`.
    """
    validation = options.dataset("val")
    if dataset.patient_pattern and validation and has_files(dataset) and has_files(validation):
        training, measured = ([(high or low).path for low, high in entries_of(one)] for one in (dataset, validation))
        refuse_shared_patients(training, measured, dataset.patient_pattern)
    read = read_pictures(dataset, options, smallest=dataset.HR_size) if has_files(dataset) else None
    patches = patches_of(dataset, options)
    if dataset.mode == "LRHR":
        if read is None or any(None in pair for pair in read.pairs):
            raise InputError("Mode LRHR needs images of both.", "Give dataroot_LR and dataroot_HR, or mode HR.")
        is_told = bool(options.network_G.conditions)
        source, facts = PairedPictures(read.pairs, patches, is_told), {"images": {"pairs": len(read.pairs)}}
    else:
        source, facts = _simulated(dataset, options, read, patches)
    facts |= {
        "mode": dataset.mode,
        "files": read.facts if read else [],
        "augmentation": asdict(patches.augmentation),
        "memory": str(read.cache) if read else "nothing to keep in memory",
    }
    window = _window(dataset, read)
    if read is None:
        opened = TrainingSource(source, window, facts)
    else:
        given = {"pairs": read.pairs, "clipped_share": read.clipped_share, "warnings": read.warnings}
        opened = TrainingSource(source, window, facts, **given, close=read.cache.close)
    if len(source) < dataset.batch_size:
        opened.warnings.append(
            f"There are {len(source)} images for batches of {dataset.batch_size}: patches of an image come several "
            "times in a batch, and the network may learn these images by heart."
        )
    return opened


def patches_of(dataset: TrainDatasetOptions, options: TrainingOptions) -> Patches:
    """Size and changes of patches, as the options say."""
    augmentation = Augmentation(dataset.use_flip, dataset.use_rot, dataset.use_contrast)
    return Patches(dataset.HR_size, options.scale, augmentation)


def _window(dataset: DatasetOptions, read: PictureSet | None) -> Window:
    """The window of the images that were read; without any, the one that was asked for."""
    return read.window if read else Window(*(dataset.normalization_range or (0, 1)))


def _simulated(
    dataset: TrainDatasetOptions, options: TrainingOptions, read: PictureSet | None, patches: Patches
) -> tuple[Source, dict]:
    """HR pictures of the user's scans, of public scans and drawn ones, with simulated LR; and the facts of that."""
    slices = options.network_G.slices
    scans, told = [high for _, high in read.pairs] if read else [], []
    if dataset.public:
        found = PublicSlices(dataset.public, options.path.public_folder, dataset.HR_size, slices)
        told = found.describe()
        pictures = [Picture(name, found.slab(n), None) for n, name in enumerate(found.names)]
        public = [picture.cropped_to(options.scale) for picture in pictures]
    else:
        public = []
    drawn = _drawn_pictures(dataset, options, dataset.HR_size)
    counts = {"scans": len(scans), "public": len(public), "procedural": len(drawn)}
    simulation = make_simulation(dataset.degradation, options.scale, dataset.degradation_options)
    facts = {
        "images": {kind: count for kind, count in counts.items() if count},
        "degradation": {"kind": dataset.degradation, **asdict(simulation)},
        **({"public": told} if told else {}),
        **({"procedural_seed": dataset.procedural_seed, "procedural_set": dataset.procedural_set} if drawn else {}),
    }
    source = mixture_of(
        [*scans, *public],
        drawn,
        dataset.procedural_share,
        lambda pictures: SimulatedPictures(pictures, patches, simulation, slices),
    )
    return source, facts


def _drawn_pictures(dataset: DatasetOptions, options: TrainingOptions, patch: int) -> list[Picture]:
    """Computer-drawn slices, twice as wide as a patch, from a file below path.root that later runs find again."""
    if not dataset.procedural:
        return []
    count, seed, size, slices = dataset.procedural, dataset.procedural_seed, 2 * patch, options.network_G.slices
    drawings = dataset.procedural_set
    name = f"{seed}-{count}-{size}{f'-{slices}' if slices else ''}{f'-set{drawings}' if drawings > 1 else ''}.f16"
    pictures = (
        Picture(f"procedural {seed}-{n}", slab, None)
        for n, slab in enumerate(drawn_slices(options.path.drawings / name, count, size, seed, slices, drawings))
    )
    return [picture.cropped_to(options.scale) for picture in pictures]


@dataclass(frozen=True, eq=False)
class ImagePair:
    """A whole image for validation or test.

    Attributes
    ----------
    name : str
    LR : ndarray of float32, shape (h, w), or (C, h, w) if there are several channels
        Units of the window.
    HR : ndarray of float32, shape (s h, s w) or (C, s h, s w), or None
    window : Window
    slab : ndarray of float32, shape (2 slices + 1, h, w), or None
        LR between its neighbouring slices, where the network sees them.
    blur : (rows, columns)
        Standard deviation of LR's blur in its pixels, where LR was simulated or a network wants to be told.
    noise : float
        The same of its noise, in units of the window.
    """

    name: str
    LR: np.ndarray
    HR: np.ndarray | None
    window: Window
    slab: np.ndarray | None = None
    blur: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0

    @property
    def input(self) -> np.ndarray:
        """What the network takes."""
        return self.LR if self.slab is None else self.slab


class Images(Sequence):
    """Whole images in a fixed order, computed when they are asked for; simulated LR are the same every time.

    Attributes
    ----------
    pairs : sequence of (Picture or None, Picture or None)
        (LR, HR); LR is None where it is simulated.
    window : Window
    warnings : list of str
        Sentences for the log.
    """

    def __init__(
        self,
        pairs: Sequence[PicturePair],
        window: Window,
        simulation: Simulation,
        read: PictureSet | None,
        slices: int,
        is_told: bool = False,
    ) -> None:
        self.pairs, self.window, self._simulation, self._slices = pairs, window, simulation, slices
        self._scanners = EstimatedConditions([low for low, _ in pairs]) if is_told else None
        self._cache = read.cache if read else None
        self.warnings = list(read.warnings) if read else []

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> ImagePair:
        (low, high), told = self.pairs[number], {}
        if low is None:
            margin, (rows, columns) = self._simulation.margin, high.size
            fine = high.cut(-margin, -margin, rows + 2 * margin, columns + 2 * margin)
            made = self._simulation(fine, np.random.default_rng(number))
            coarse, truth = made["LR"], middle_of(made["HR"], self._slices)
        else:
            coarse, truth = low.whole(), high.whole() if high else None
            made = self._scanners.of(number) if self._scanners else None
        if made:
            told = {"blur": tuple(map(float, made["blur"])), "noise": float(made["noise"][0])}
        image = middle_of(coarse, self._slices)
        image, truth = (a[0] if a is not None and len(a) == 1 else a for a in (image, truth))
        return ImagePair((high or low).name, image, truth, self.window, coarse if self._slices else None, **told)

    def close(self) -> None:
        """Free the cache."""
        if self._cache:
            self._cache.close()


def open_images(dataset: DatasetOptions, options: TrainingOptions) -> Images:
    """Whole images to measure on.

    Of the slices in files a validation takes `logger.val_slices`, evenly spread, because it is repeated again and
    again; a test takes all. Procedural slices are as many as the options say.

    Raises
    ------
    InputError, OptionError, ResourceError
        If there are none, or they are not what the options say; see `read_pictures`.
    """
    at_most = options.logger.val_slices if dataset.phase == "val" else None
    read = read_pictures(dataset, options, at_most=at_most) if has_files(dataset) else None
    train = options.datasets.get("train")
    drawn = _drawn_pictures(dataset, options, train.HR_size if train else USUAL_PATCH)
    pairs = [*(read.pairs if read else ()), *((None, picture) for picture in drawn)]
    if not pairs:
        raise InputError(f"The data set {dataset.name!r} names no images.", "Give dataroot_HR or procedural.")
    # Grain would be added to HR as well, and sharpening change it: it would not be the image that was given.
    changes = {**dataset.degradation_options, "grain_share": 0.0, "sharpen": 0.0}
    simulation = make_simulation(dataset.degradation, options.scale, changes)
    network = options.network_G
    return Images(pairs, _window(dataset, read), simulation, read, network.slices, bool(network.conditions))
