"""All pictures of a data set: listed, paired, decoded, with the window and what there is to say about them.

From the options of a data set to what is trained on.

Whole images, to validate and to test with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...core.errors import InputError
from ...scan.window import Window
from .decode import PixelCache, Tally, done_ahead, read_planes, window_of
from .drawn import drawn_slices
from .files import (
    Entry,
    Plane,
    Subset,
    bytes_of,
    list_entries,
    neighbours_of,
    pair_entries,
    planes_of,
    refuse_shared_patients,
    roots_of,
)
from .patches import (
    Augmentation,
    Draw,
    Mixture,
    PairedPictures,
    Patches,
    Picture,
    SimulatedPictures,
    Simulation,
    Source,
    make_simulation,
    without_neighbours,
)
from .public import PublicSlices

if TYPE_CHECKING:
    from ..options import DatasetOptions, TrainDatasetOptions, TrainingOptions


SHOWN = 5
CLIPPED_ALARM = 0.01
PlanePair = tuple[Plane | None, Plane | None]


@dataclass(frozen=True)
class Gathered:
    """Pictures and facts.

    Attributes
    ----------
    pairs : list of (Picture or None, Picture or None)
        (LR, HR). LR is None in mode HR; HR is None if there are only LR images.
    window : Window
    clipped_share : float
        Of the values that lie outside the window.
    warnings : list of str
    facts : list of dict
        One for each role, for the model card.
    cache : PixelCache
    """

    pairs: list[tuple[Picture | None, Picture | None]]
    window: Window
    clipped_share: float
    warnings: list[str]
    facts: list[dict]
    cache: PixelCache


@dataclass
class _Sides:
    """Planes still on disk."""

    pairs: list[PlanePair]
    warnings: list[str] = field(default_factory=list)


def has_files(dataset: DatasetOptions) -> bool:
    return bool(dataset.dataroot_HR or dataset.dataroot_LR)


def window_of_dataset(dataset: DatasetOptions, gathered: Gathered | None) -> Window:
    """The window of the images that were read; without any, the one that was asked for."""
    return gathered.window if gathered else Window(*(dataset.normalization_range or (0, 1)))


def entries_of(dataset: DatasetOptions) -> list[tuple[Entry | None, Entry | None]]:
    """(LR, HR) files or volumes that a data set names; see `Gathered.pairs` for None."""
    low, high = roots_of(dataset.dataroot_LR), roots_of(dataset.dataroot_HR)
    subset = Subset(dataset.subset_file)
    if low and high and dataset.mode != "HR":
        entries = pair_entries(low, high, subset)
    elif high:
        entries = [(None, entry) for root in high for entry in subset.of(list_entries(root))]
    else:
        entries = [(entry, None) for root in low for entry in subset.of(list_entries(root))]
    subset.check()
    if not entries:
        raise InputError(f"The data set {dataset.name!r} names no images.", "Check subset_file.")
    return entries


def gather(
    dataset: DatasetOptions, options: TrainingOptions, *, smallest: int = 0, at_most: int | None = None
) -> Gathered:
    """Decode a data set.

    Parameters
    ----------
    dataset : DatasetOptions
    options : TrainingOptions
    smallest : int
        HR images with a shorter edge are left out, with a warning.
    at_most : int, optional
        So many images, evenly spread; all if not given.

    Raises
    ------
    InputError, OptionError
        Naming the files that have no partner, are of another size, damaged, in colour, of 8 bits, not finite.
    """
    cut = done_ahead(lambda entries: _cut(entries, dataset, options.scale), entries_of(dataset))
    sides = _Sides([pair for pairs in cut for pair in pairs])
    _leave_out_small(sides, smallest)
    chosen = _spread(len(sides.pairs), at_most)
    slices = options.network_G.slices
    around = neighbours_of([low or high for low, high in sides.pairs], slices, _gaps(sides.pairs, options))
    needed = sorted({place for number in chosen for place in around[number]})
    planes = [sides.pairs[number] for number in needed]
    low, high = ([pair[side] for pair in planes if pair[side]] for side in (0, 1))
    cache = PixelCache(bytes_of(low) + bytes_of(high), dataset.cache_gb, Path(options.path.root))
    given = Window(*dataset.normalization_range) if dataset.normalization_range else None
    taken, given_out = options.network_G.channels, options.network_G.out_channels
    tallies = [Tally("LR", given, taken), Tally("HR", given, given_out if low else taken)]
    pixels = [read_planes(side, cache.keep, tally) for side, tally in zip((low, high), tallies, strict=True)]
    tallies = [tally for tally in tallies if tally.values]
    for tally in tallies:
        tally.check_depth()
    window = window_of(tallies)
    coarse, fine = (_pictures(*side, window) or [None] * len(planes) for side in zip((low, high), pixels, strict=True))
    at = {number: place for place, number in enumerate(needed)}
    slabs = [_slab([(coarse if low else fine)[at[place]] for place in around[number]]) for number in chosen]
    coarse, fine = (slabs, [fine[at[number]] for number in chosen]) if low else ([None] * len(chosen), slabs)
    clipped = sum(tally.outside for tally in tallies) / sum(tally.values for tally in tallies)
    names = _distinct([(high or low).name for low, high in (sides.pairs[number] for number in chosen)])
    return Gathered(
        pairs=[_aligned(*named, options.scale) for named in zip(names, coarse, fine, strict=True)],
        window=window,
        clipped_share=clipped,
        warnings=sides.warnings + _clipping(clipped, window),
        facts=[tally.facts() for tally in tallies],
        cache=cache,
    )


def _pictures(planes: Sequence[Plane], pixels: Sequence[np.ndarray], window: Window) -> list[Picture]:
    return [Picture(plane.name, part, window) for plane, part in zip(planes, pixels, strict=True)]


def _gaps(pairs: Sequence[PlanePair], options: TrainingOptions) -> tuple[int, ...]:
    """Distances of neighbouring slices in training; where LR is simulated, every second is that of cubic LR voxels."""
    return (1, options.scale) if options.is_train and not any(low for low, _ in pairs) else (1,)


def _slab(pictures: Sequence[Picture]) -> Picture:
    """The picture in the middle with the others before and after its own channel."""
    middle = pictures[len(pictures) // 2]
    if len(pictures) == 1:
        return middle
    return replace(middle, pixels=[picture.pixels[0] for picture in pictures])


def _cut(entries: tuple[Entry | None, Entry | None], dataset: DatasetOptions, scale: int) -> list[PlanePair]:
    low, high = (planes_of(e, dataset.axis, dataset.slices) if e else None for e in entries)
    if low is None or high is None:
        return [(None, plane) for plane in high] if high else [(plane, None) for plane in low]
    if len(low) != len(high):
        raise InputError(
            f"{entries[0].path} has {len(low)} slices and {entries[1].path} has {len(high)}.",
            f"Cut pairs of volumes along the axis that both have alike (axis is {dataset.axis!r}).",
        )
    for a, b in zip(low, high, strict=True):
        if tuple(n * scale for n in a.size) != tuple(n - n % scale for n in b.size):
            raise InputError(
                f"{b.entry.path} is {b.size[0]} x {b.size[1]} and {a.entry.path} is {a.size[0]} x {a.size[1]}: "
                f"HR is not {scale} times LR.",
                "Correct scale, or crop both to their common region (cbct-superres prepare).",
            )
    return list(zip(low, high, strict=True))


def _leave_out_small(sides: _Sides, smallest: int) -> None:
    small = [high for _, high in sides.pairs if high and min(high.size) < smallest]
    if not small:
        return
    names = ", ".join(plane.name for plane in small[:SHOWN])
    told = f"{len(small)} of {len(sides.pairs)} HR images are smaller than HR_size {smallest}: {names}"
    if len(small) == len(sides.pairs):
        raise InputError(f"{told}.", "Choose a smaller HR_size, or larger images.")
    sides.pairs = [pair for pair in sides.pairs if min(pair[1].size) >= smallest]
    sides.warnings.append(f"{told}{', ...' * (len(small) > SHOWN)}. They are left out.")


def _spread(count: int, at_most: int | None) -> list[int]:
    """Numbers below `count`, all or evenly spread."""
    if at_most is None or count <= at_most:
        return list(range(count))
    return np.linspace(0, count - 1, at_most).round().astype(int).tolist()


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that came before with a number: results are called after them."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def _aligned(name: str, low: Picture | None, high: Picture | None, scale: int) -> tuple[Picture | None, Picture | None]:
    low = low and replace(low, name=name)
    return low, high and replace(high, name=name).cropped_to(scale)


def _clipping(share: float, window: Window) -> list[str]:
    if share <= CLIPPED_ALARM:
        return []
    return [f"{share:.1%} of the grey values lie outside the window {window} and are clipped (normalization_range)."]


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
    public, told = _public_pictures(dataset, options)
    drawn = _drawn_pictures(dataset, options, dataset.HR_size)
    counts = {"scans": len(scans), "public": len(public), "procedural": len(drawn)}
    if not any(counts.values()):
        raise InputError("The training set has no images.", "Give dataroot_HR, public or procedural.")
    simulation = make_simulation(dataset.degradation, options.scale, dataset.degradation_options)
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


def _public_pictures(dataset: TrainDatasetOptions, options: TrainingOptions) -> tuple[list[Picture], list[dict]]:
    """Slices of the public scans that a data set names, and what a card says of these scans."""
    if not dataset.public:
        return [], []
    folder = Path(options.path.public_data).expanduser() if options.path.public_data else None
    found = PublicSlices(dataset.public, folder, dataset.HR_size, options.network_G.slices)
    pictures = (Picture(name, found.slab(n), None) for n, name in enumerate(found.names))
    return [picture.cropped_to(options.scale) for picture in pictures], found.describe()


def _drawn_pictures(dataset: DatasetOptions, options: TrainingOptions, patch: int) -> list[Picture]:
    """Computer-drawn slices, twice as wide as a patch, from a file below path.root that later runs find again."""
    if not dataset.procedural:
        return []
    count, seed, size, slices = dataset.procedural, dataset.procedural_seed, 2 * patch, options.network_G.slices
    name = f"{seed}-{count}-{size}{f'-{slices}' if slices else ''}.f16"
    path = Path(options.path.root).expanduser() / "procedural" / name
    pictures = (
        Picture(f"procedural {seed}-{n}", slab, None)
        for n, slab in enumerate(drawn_slices(path, count, size, seed, slices))
    )
    return [picture.cropped_to(options.scale) for picture in pictures]


def _check_patients(dataset: DatasetOptions, options: TrainingOptions) -> None:
    validation = options.dataset("val")
    if not (dataset.patient_pattern and validation and has_files(dataset) and has_files(validation)):
        return
    training, measured = ([(high or low).path for low, high in entries_of(one)] for one in (dataset, validation))
    refuse_shared_patients(training, measured, dataset.patient_pattern)


def _augmentation(dataset: TrainDatasetOptions) -> Augmentation:
    return Augmentation(dataset.use_flip, dataset.use_rot, dataset.use_contrast)


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
    drawn = _drawn_pictures(dataset, options, train.HR_size if train else USUAL_PATCH)
    pairs = [*(gathered.pairs if gathered else ()), *((None, picture) for picture in drawn)]
    if not pairs:
        raise InputError(f"The data set {dataset.name!r} names no images.", "Give dataroot_HR or procedural.")
    simulation = _without_grain(dataset, options.scale)
    return Images(pairs, window_of_dataset(dataset, gathered), simulation, gathered, options.network_G.slices)


def _without_grain(dataset: DatasetOptions, scale: int) -> Simulation:
    """Grain would be added to HR as well, and sharpening change it: it would not be the image that was given."""
    options = {**dataset.degradation_options, "grain_share": 0.0, "sharpen": 0.0}
    return make_simulation(dataset.degradation, scale, options)


def _plain(image: np.ndarray) -> np.ndarray:
    """Without the axis of channels if there is one."""
    return image[0] if len(image) == 1 else image
