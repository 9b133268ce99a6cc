"""From the options of a data set to what trains on it and to what is measured on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...errors import InputError, OutputError
from ...locks import FileLock
from ...window import Window
from .augmentation import Augmentation
from .gather import Gathered, entries_of, gather, has_files
from .patients import refuse_shared_patients
from .picture import Picture
from .procedural import make_pool
from .public import PublicSlices
from .sources import Draw, Mixture, PairedPictures, Patches, SimulatedPictures, Simulation, Source, make_simulation

if TYPE_CHECKING:
    from ..options import TrainingOptions
    from ..options.data_keys import DatasetOptions, TrainDatasetOptions

VALIDATED = 16  # images of a validation, evenly spread; a test takes all
PROCEDURAL_VALIDATION_EDGE = 128


class TrainingSource:
    """A source with all that a run and a model card want to know of it.

    Attributes
    ----------
    names : sequence of str
    window : Window
    clipped_share : float
        Of the grey values that the window clips.
    warnings : list of str
        Sentences for the log.
    """

    def __init__(self, source: Source, gathered: Gathered | None, window: Window, facts: dict) -> None:
        self._source, self._cache, self._facts = source, gathered.cache if gathered else None, facts
        self.names = source.names
        self.window = window
        self.clipped_share = gathered.clipped_share if gathered else 0.0
        self.warnings = list(gathered.warnings) if gathered else []

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, images: Sequence[int], draws: Sequence[Draw]) -> dict[str, Tensor]:
        return self._source.batch(images, draws)

    def describe(self) -> dict:
        """Data, window, augmentation and memory, as JSON."""
        return {**self._facts, "window": [self.window.lo, self.window.hi], "clipped_share": self.clipped_share}

    def close(self) -> None:
        """Free the cache."""
        if self._cache:
            self._cache.close()


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
    """

    name: str
    LR: np.ndarray
    HR: np.ndarray | None
    window: Window


class Images(Sequence):
    """Whole images in a fixed order, computed when they are asked for; simulated LR are the same every time."""

    def __init__(
        self,
        pairs: Sequence[tuple[Picture | None, Picture | None]],
        window: Window,
        simulation: Simulation,
        gathered: Gathered | None,
    ) -> None:
        self._pairs, self._simulation = pairs, simulation
        self._cache = gathered.cache if gathered else None
        self.window = window
        self.warnings = list(gathered.warnings) if gathered else []

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> ImagePair:
        low, high = self._pairs[number]
        if low is None:
            margin, (rows, columns) = self._simulation.margin, high.size
            fine = high.cut(-margin, -margin, rows + 2 * margin, columns + 2 * margin)
            coarse, truth = self._simulation(fine, np.random.default_rng(number))
        else:
            coarse, truth = low.whole(), high.whole() if high else None
        name = (high or low).name
        return ImagePair(name, _plain(coarse), None if truth is None else _plain(truth), self.window)

    def close(self) -> None:
        """Free the cache."""
        if self._cache:
            self._cache.close()


def open_source(dataset: TrainDatasetOptions, options: TrainingOptions) -> TrainingSource:
    """The images that are trained on, decoded, with their random patches.

    Raises
    ------
    InputError, OptionError, ResourceError
        If there is nothing to train on, or it is not what the options say; see `gather`.
    """
    _check_patients(dataset, options)
    gathered = gather(dataset, options, smallest=dataset.HR_size) if has_files(dataset) else None
    window = _window(dataset, gathered)
    patches = Patches(dataset.HR_size, options.scale, _augmentation(dataset))
    simulation = make_simulation(dataset.degradation, options.scale, dataset.degradation_options, dataset.clip_lr)
    if dataset.mode == "LRHR":
        source = PairedPictures(_needed(gathered).pairs, patches)
        parts = {"pairs": len(source)}
    else:
        source, parts = _simulated(dataset, options, gathered, patches, simulation)
    facts = _facts(dataset, gathered, simulation, patches, parts)
    opened = TrainingSource(source, gathered, window, facts)
    if len(source) < dataset.batch_size:
        opened.warnings.append(
            f"There are {len(source)} images for batches of {dataset.batch_size}: patches of an image come several "
            "times in a batch, and the network may learn these images by heart."
        )
    return opened


def open_images(dataset: DatasetOptions, options: TrainingOptions) -> Images:
    """Whole images to measure on: `VALIDATED` slices evenly spread for a validation, all for a test.

    Raises
    ------
    As `open_source`.
    """
    at_most = VALIDATED if dataset.phase == "val" else None
    gathered = gather(dataset, options, at_most=at_most) if has_files(dataset) else None
    window = _window(dataset, gathered)
    simulation = _simulation_without_grain(dataset, options.scale)
    train = options.datasets.get("train")
    edge = train.HR_size if train else PROCEDURAL_VALIDATION_EDGE
    drawn = [(None, picture) for picture in _drawn_pictures(dataset, options, edge)[:at_most]]
    pairs = [*(gathered.pairs if gathered else ()), *drawn]
    if not pairs:
        raise InputError(
            f"The data set {dataset.name!r} has no images.", "Give dataroot_HR, dataroot_LR or procedural."
        )
    return Images(pairs, window, simulation, gathered)


def _simulated(
    dataset: TrainDatasetOptions,
    options: TrainingOptions,
    gathered: Gathered | None,
    patches: Patches,
    simulation: Simulation,
) -> tuple[Source, dict[str, int]]:
    scans = [high for _, high in gathered.pairs] if gathered else []
    public = _public_pictures(dataset, options, dataset.HR_size)
    drawn = _drawn_pictures(dataset, options, dataset.HR_size)
    counts = {"scans": len(scans), "public": len(public), "procedural": len(drawn)}
    groups = [group for group in ([*scans, *public], drawn) if group]
    if not groups:
        raise InputError("The training set has no images.", "Give dataroot_HR, public or procedural.")
    parts = [SimulatedPictures(group, patches, simulation) for group in groups]
    if len(parts) == 1:
        return parts[0], counts
    share = dataset.procedural_share
    share = len(drawn) / sum(counts.values()) if share is None else share
    if share in (0, 1):
        return parts[int(share)], counts
    return Mixture(parts, [1 - share, share]), counts


def _simulation_without_grain(dataset: DatasetOptions, scale: int) -> Simulation:
    """For measuring: grain would be added to HR too, and then HR is no longer the image that was given."""
    options = {**dataset.degradation_options, "grain_share": 0.0}
    return make_simulation(dataset.degradation, scale, options, dataset.clip_lr)


def _public_pictures(dataset: DatasetOptions, options: TrainingOptions, size: int) -> list[Picture]:
    if not dataset.public:
        return []
    folder = Path(options.path.public_data).expanduser() if options.path.public_data else None
    slices = PublicSlices(dataset.public, folder, size)
    return [
        Picture(name, slices[n].astype(np.float16)[None], None).cropped_to(options.scale)
        for n, name in enumerate(slices.names)
    ]


def _drawn_pictures(dataset: DatasetOptions, options: TrainingOptions, edge: int) -> list[Picture]:
    if not dataset.procedural:
        return []
    count, seed, size = dataset.procedural, dataset.procedural_seed, 2 * edge
    path = Path(options.path.root).expanduser() / "procedural" / f"{seed}-{count}-{size}.f16"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pool = _pool(path, count, size, seed)
    except OSError as error:
        raise OutputError(
            f"The procedural slices cannot be written to {path}: {error}.", "Change path.root."
        ) from error
    return [
        Picture(f"procedural {seed}-{n}", image[None], None).cropped_to(options.scale) for n, image in enumerate(pool)
    ]


def _pool(path: Path, count: int, size: int, seed: int) -> np.memmap:
    """Drawn by one of the processes that want it, while the others wait."""
    lock = FileLock(path.with_suffix(".lock"))
    while not lock.acquire():
        time.sleep(0.2)
    try:
        return make_pool(path, count, size, seed)
    finally:
        lock.release()


def _check_patients(dataset: DatasetOptions, options: TrainingOptions) -> None:
    held_out = options.dataset("val")
    if not (dataset.patient_pattern and held_out and has_files(dataset) and has_files(held_out)):
        return
    training, measured = ([(high or low).path for low, high in entries_of(one)] for one in (dataset, held_out))
    refuse_shared_patients(training, measured, dataset.patient_pattern)


def _needed(gathered: Gathered | None) -> Gathered:
    if gathered is None or any(None in pair for pair in gathered.pairs):
        raise InputError("Mode LRHR needs images of both.", "Give dataroot_LR and dataroot_HR, or mode HR.")
    return gathered


def _window(dataset: DatasetOptions, gathered: Gathered | None) -> Window:
    if gathered:
        return gathered.window
    return Window(*(dataset.normalization_range or (0, 1)))


def _augmentation(dataset: TrainDatasetOptions) -> Augmentation:
    return Augmentation(
        dataset.use_flip, dataset.use_rot, dataset.use_contrast, dataset.contrast, dataset.brightness, dataset.gamma
    )


def _facts(
    dataset: TrainDatasetOptions,
    gathered: Gathered | None,
    simulation: Simulation,
    patches: Patches,
    counts: dict[str, int],
) -> dict:
    facts = {
        "mode": dataset.mode,
        "images": {name: count for name, count in counts.items() if count},
        "files": gathered.facts if gathered else [],
        "augmentation": asdict(patches.augmentation),
        "memory": str(gathered.cache) if gathered else "",
    }
    if dataset.mode == "HR":
        facts["degradation"] = {"kind": dataset.degradation, **asdict(simulation)}
    if dataset.procedural:
        facts["procedural_seed"] = dataset.procedural_seed
    if dataset.public:
        facts["public"] = list(dataset.public)
    return facts


def _plain(image: np.ndarray) -> np.ndarray:
    """Without the axis of channels if there is one."""
    return image[0] if len(image) == 1 else image
