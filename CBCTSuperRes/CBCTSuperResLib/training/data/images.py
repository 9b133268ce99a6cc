"""Whole images, to validate and to test with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...grey.window import Window
from .extra import procedural_pictures
from .gather import Gathered, gather, has_files, window_of_dataset
from .picture import Picture
from .sources import Simulation, make_simulation, without_neighbours

if TYPE_CHECKING:
    from ..options import TrainingOptions
    from ..options.data_keys import DatasetOptions

USUAL_PATCH = 128


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
    """

    name: str
    LR: np.ndarray
    HR: np.ndarray | None
    window: Window
    slab: np.ndarray | None = None

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
        pairs: Sequence[tuple[Picture | None, Picture | None]],
        window: Window,
        simulation: Simulation,
        gathered: Gathered | None,
        slices: int = 0,
    ) -> None:
        self.pairs, self._simulation, self._slices = pairs, simulation, slices
        self._cache = gathered.cache if gathered else None
        self.window = window
        self.warnings = list(gathered.warnings) if gathered else []

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> ImagePair:
        low, high = self.pairs[number]
        if low is None:
            coarse, truth = self._simulated(high, number)
        else:
            coarse, truth = low.whole(), high.whole() if high else None
        slab = coarse if self._slices else None
        image = coarse[self._slices : self._slices + 1] if self._slices else coarse
        truth = None if truth is None else _plain(truth)
        return ImagePair((high or low).name, _plain(image), truth, self.window, slab)

    def close(self) -> None:
        """Free the cache."""
        if self._cache:
            self._cache.close()

    def _simulated(self, high: Picture, number: int) -> tuple[np.ndarray, np.ndarray]:
        margin, (rows, columns) = self._simulation.margin, high.size
        fine = high.cut(-margin, -margin, rows + 2 * margin, columns + 2 * margin)
        return without_neighbours(self._simulation(fine, np.random.default_rng(number)), self._slices)


def open_images(dataset: DatasetOptions, options: TrainingOptions) -> Images:
    """Whole images to measure on.

    Of the slices in files a validation takes `logger.val_slices`, evenly spread, because it is repeated again and
    again; a test takes all. Procedural slices are as many as the options say.

    Raises
    ------
    InputError, OptionError, ResourceError
        If there are none, or they are not what the options say; see `gather`.
    """
    at_most = options.logger.val_slices if dataset.phase == "val" else None
    gathered = gather(dataset, options, at_most=at_most) if has_files(dataset) else None
    train = options.datasets.get("train")
    drawn = procedural_pictures(dataset, options, train.HR_size if train else USUAL_PATCH)
    pairs = [*(gathered.pairs if gathered else ()), *((None, picture) for picture in drawn)]
    if not pairs:
        raise InputError(f"The data set {dataset.name!r} names no images.", "Give dataroot_HR or procedural.")
    simulation = _without_grain(dataset, options.scale)
    return Images(pairs, window_of_dataset(dataset, gathered), simulation, gathered, options.network_G.slices)


def _without_grain(dataset: DatasetOptions, scale: int) -> Simulation:
    """Grain would be added to HR as well, and sharpening change it: it would not be the image that was given."""
    options = {**dataset.degradation_options, "grain_share": 0.0, "sharpen": 0.0}
    return make_simulation(dataset.degradation, scale, options, dataset.clip_lr)


def _plain(image: np.ndarray) -> np.ndarray:
    """Without the axis of channels if there is one."""
    return image[0] if len(image) == 1 else image
