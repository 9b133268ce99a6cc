"""From the options of a data set to what is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import Tensor

from ...errors import InputError
from ...grey.window import Window
from .augmentation import Augmentation
from .extra import procedural_pictures, public_pictures
from .gather import Gathered, entries_of, gather, has_files, window_of_dataset
from .patients import refuse_shared_patients
from .sources import Draw, Mixture, PairedPictures, Patches, SimulatedPictures, Source, make_simulation

if TYPE_CHECKING:
    from ..options import TrainingOptions
    from ..options.data_keys import DatasetOptions, TrainDatasetOptions


class TrainingSource:
    """A source with all that a run and a model card want to know of it.

    Attributes
    ----------
    names : sequence of str
    pairs : sequence of (Picture or None, Picture or None)
        (LR, HR) of the images that were read from files.
    window : Window
    clipped_share : float
        Of the grey values that the window clips.
    warnings : list of str
        Sentences for the log.
    """

    def __init__(self, source: Source, gathered: Gathered | None, window: Window, facts: dict) -> None:
        self._source, self._cache, self._facts = source, gathered.cache if gathered else None, facts
        self.names = source.names
        self.pairs = gathered.pairs if gathered else []
        self.window = window
        self.clipped_share = gathered.clipped_share if gathered else 0.0
        self.warnings = list(gathered.warnings) if gathered else []

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, images: Sequence[int], draws: Sequence[Draw]) -> dict[str, Tensor]:
        return self._source.batch(images, draws)

    def describe(self) -> dict:
        """What is trained on, as JSON.

        Returns
        -------
        dict
            "mode", "images" (numbers by kind), "files" (for each role its types, voxel sizes in mm and the SHA256 of
            its pixels), "augmentation", "memory", "window", "clipped_share"; where it applies "degradation",
            "procedural_seed" and "public".
        """
        return {**self._facts, "window": [self.window.lo, self.window.hi], "clipped_share": self.clipped_share}

    def close(self) -> None:
        """Free the cache."""
        if self._cache:
            self._cache.close()


def open_source(dataset: TrainDatasetOptions, options: TrainingOptions) -> TrainingSource:
    """The images that are trained on, decoded, with their random patches.

    Fewer images than a batch are a warning, not an error: batches go on through the epochs, so that nothing is lost,
    and a single volume or a few large slices hold many different patches.

    Raises
    ------
    InputError, OptionError, ResourceError
        If there is nothing to train on, or it is not what the options say; see `gather`.
    """
    _check_patients(dataset, options)
    gathered = gather(dataset, options, smallest=dataset.HR_size) if has_files(dataset) else None
    patches = Patches(dataset.HR_size, options.scale, _augmentation(dataset))
    source, facts = (_paired if dataset.mode == "LRHR" else _simulated)(dataset, options, gathered, patches)
    facts |= {
        "mode": dataset.mode,
        "files": gathered.facts if gathered else [],
        "augmentation": asdict(patches.augmentation),
        "memory": str(gathered.cache) if gathered else "nothing to keep in memory",
    }
    opened = TrainingSource(source, gathered, window_of_dataset(dataset, gathered), facts)
    if len(source) < dataset.batch_size:
        opened.warnings.append(
            f"There are {len(source)} images for batches of {dataset.batch_size}: patches of an image come several "
            "times in a batch, and the network may learn these images by heart."
        )
    return opened


def _paired(
    dataset: TrainDatasetOptions, options: TrainingOptions, gathered: Gathered | None, patches: Patches
) -> tuple[Source, dict]:
    if gathered is None or any(None in pair for pair in gathered.pairs):
        raise InputError("Mode LRHR needs images of both.", "Give dataroot_LR and dataroot_HR, or mode HR.")
    return PairedPictures(gathered.pairs, patches), {"images": {"pairs": len(gathered.pairs)}}


def _simulated(
    dataset: TrainDatasetOptions, options: TrainingOptions, gathered: Gathered | None, patches: Patches
) -> tuple[Source, dict]:
    scans = [high for _, high in gathered.pairs] if gathered else []
    public, told = public_pictures(dataset, options, dataset.HR_size)
    drawn = procedural_pictures(dataset, options, dataset.HR_size)
    counts = {"scans": len(scans), "public": len(public), "procedural": len(drawn)}
    if not any(counts.values()):
        raise InputError("The training set has no images.", "Give dataroot_HR, public or procedural.")
    simulation = make_simulation(dataset.degradation, options.scale, dataset.degradation_options, dataset.clip_lr)
    facts = {
        "images": {kind: count for kind, count in counts.items() if count},
        "degradation": {"kind": dataset.degradation, **asdict(simulation)},
        **({"public": told} if told else {}),
        **({"procedural_seed": dataset.procedural_seed} if drawn else {}),
    }
    share = len(drawn) / sum(counts.values()) if dataset.procedural_share is None else dataset.procedural_share
    parts = [
        (pictures, part) for pictures, part in (([*scans, *public], 1 - share), (drawn, share)) if pictures and part
    ]
    if not parts:
        raise InputError(f"procedural_share is {share:g}, and there are no images of that kind.", "Correct it.")
    sources = [SimulatedPictures(pictures, patches, simulation, options.network_G.slices) for pictures, _ in parts]
    return sources[0] if len(sources) == 1 else Mixture(sources, [part for _, part in parts]), facts


def _check_patients(dataset: DatasetOptions, options: TrainingOptions) -> None:
    validation = options.dataset("val")
    if not (dataset.patient_pattern and validation and has_files(dataset) and has_files(validation)):
        return
    training, measured = ([(high or low).path for low, high in entries_of(one)] for one in (dataset, validation))
    refuse_shared_patients(training, measured, dataset.patient_pattern)


def _augmentation(dataset: TrainDatasetOptions) -> Augmentation:
    return Augmentation(
        dataset.use_flip, dataset.use_rot, dataset.use_contrast, dataset.contrast, dataset.brightness, dataset.gamma
    )
