"""Decoding: every file once, checked, counted, and kept in the type it was stored in.

Decoded pixels stay in memory up to a limit, above it in a mapped file that vanishes with the process.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...core.errors import InputError, OptionError, OutputError
from ...core.memory import available_memory, readable
from ...io.checks import slabs
from ...io.read import read_volume
from ...io.slice_files import read_facts, read_pixels
from ...io.write import check_disk
from ...scan.window import Window
from .files import Plane, naming

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8
EIGHT_BITS = 255
MOST_OUTSIDE = 0.98  # of the grey values; in a scan that is almost all air, some per cent lie within
LEAST_RANGE = 0.005  # of the window, from the darkest to the brightest
Keep = Callable[[np.ndarray], np.ndarray]
GB = 1e9
PROCESSES = "LOCAL_WORLD_SIZE"  # what torchrun tells each of the processes on a machine


def done_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` for each item, in order; only a few results exist before they are taken.

    Files are read this way, as unpacking does not hold Python's lock. What `work` raises is raised here.
    """
    threads = min(THREADS, os.cpu_count() or 1)
    items = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reading")
    try:
        begun = deque(pool.submit(work, item) for item in islice(items, 2 * threads))
        while begun:
            result = begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class Tally:
    """What was seen in the images of one role, LR or HR.

    Attributes
    ----------
    role : str
    window : Window or None
        The one that was asked for.
    channels : int
        That the network takes.
    values, outside : int
        How many there are, and how many the window clips.
    largest : float
    types : dict
        For each type, the first file of it.
    """

    role: str
    window: Window | None
    channels: int = 1
    values: int = 0
    outside: int = 0
    largest: float = -np.inf
    types: dict[np.dtype, Path] = field(default_factory=dict)
    _low: float = 1.0  # of what the network sees, in units of the window
    _high: float = 0.0
    _spacings: set[float] = field(default_factory=set)
    _digest: object = field(default_factory=hashlib.sha256)

    def add(self, pixels: np.ndarray, planes: Sequence[Plane]) -> None:
        """Count what was decoded for these planes of one entry, and refuse what the window is not made for."""
        path, window = planes[0].entry.path, self.window
        self.types.setdefault(pixels.dtype, path)
        if pixels.dtype == np.uint8 and window and window.hi > EIGHT_BITS:
            raise InputError(
                f"{path} has 8 bits, but the window {window} is one of 16-bit images.",
                f"Use the original images with 16 bits, or give normalization_range [0, {EIGHT_BITS}].",
            )
        self._spacings.update(edge for plane in planes for edge in plane.spacing or ())
        for _, slab in slabs(pixels):
            if pixels.dtype.kind == "f":
                if not np.isfinite(slab).all():
                    raise InputError(
                        f"{path} holds values that are not finite (NaN or infinity).", "Replace or remove them."
                    )
                low, high = float(slab.min()), float(slab.max())
                if window is None and not 0 <= low <= high <= 1:
                    raise InputError(
                        f"{path} holds real numbers from {low:.6g} to {high:.6g}, and no window says which become 0 "
                        "and 1.",
                        "Give normalization_range.",
                    )
            self.largest = max(self.largest, float(slab.max()))
            self.values += slab.size
            if window:
                self.outside += round(window.clipped_share(slab) * slab.size)
                self._note_contrast(slab)
            self._digest.update(np.ascontiguousarray(slab).data)

    def _note_contrast(self, slab: np.ndarray) -> None:
        seen = self.window.to_unit(slab[..., ::3, ::3])
        low, high = np.percentile(seen, (0.1, 99.9))
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))

    def check(self) -> None:
        """Refuse images in which the network would see nothing, and 8-bit images that were saved with 16 bits.

        The largest value of all images tells of 8 bits: a dark slice alone may well stay below 256.

        Raises
        ------
        InputError
        """
        path = self.types.get(np.dtype(np.uint16))
        fits = self.window is not None and self.window.hi <= EIGHT_BITS
        if path and len(self.types) == 1 and self.largest <= EIGHT_BITS and not fits:
            raise InputError(
                f"The {self.role} images are 16-bit files ({path}, for instance), but no value exceeds "
                f"{self.largest:.0f}: they were saved from 8-bit images.",
                f"Use the original images with 16 bits, or give normalization_range [0, {EIGHT_BITS}].",
            )
        if self.window and self.values:
            path, share = next(iter(self.types.values())), self.outside / self.values
            advice = "Give the grey values of your images as normalization_range: cbct-superres info shows them."
            if share > MOST_OUTSIDE:
                raise InputError(
                    f"{share:.1%} of the grey values of the {self.role} images ({path}, for instance) lie outside "
                    f"the window {self.window} (normalization_range): nothing could be learnt.",
                    advice,
                )
            if self._high - self._low < LEAST_RANGE:
                extent = max(0, self._high - self._low)
                raise InputError(
                    f"The {self.role} images ({path}, for instance) take up {extent:.2g} of the window {self.window} "
                    "(normalization_range): they are almost constant, nothing could be learnt.",
                    advice,
                )

    def facts(self) -> dict:
        """For the model card."""
        edges = sorted(self._spacings)
        return {
            "role": self.role,
            "types": sorted(str(kind) for kind in self.types),
            "voxel_size_mm": [round(edges[0], 6), round(edges[-1], 6)] if edges else None,
            "sha256": self._digest.hexdigest(),
        }


def read_planes(planes: Sequence[Plane], keep: Keep, tally: Tally) -> list[np.ndarray]:
    """Pixels (C, H, W) of the planes as stored; an entry is decoded once.

    Where only some planes of a volume are wanted, only they are kept.

    Raises
    ------
    InputError
        Naming the file that is damaged, has colour where grey is needed, or values that are not finite.
    """
    groups = [list(group) for _, group in groupby(planes, lambda plane: plane.entry)]
    has_volumes = any(group[0].entry.is_volume for group in groups)
    one_by_one_or_ahead = map if has_volumes else done_ahead  # several volumes at a time would not be bounded memory
    found: list[np.ndarray] = []
    for group, decoded in zip(groups, one_by_one_or_ahead(partial(_decoded, tally.channels), groups), strict=True):
        is_whole = sum(plane.nbytes for plane in group) >= group[0].entry_nbytes
        if group[0].entry.is_volume and not is_whole:
            parts = [keep(plane.of(decoded).copy()) for plane in group]
            for plane, pixels in zip(group, parts, strict=True):
                tally.add(pixels, [plane])
        else:
            tally.add(decoded, group)
            kept = keep(decoded)
            parts = [plane.of(kept) for plane in group]
        found += [np.broadcast_to(pixels, (tally.channels, *pixels.shape[1:])) for pixels in parts]
    return found


def read_voxels_of(plane: Plane) -> np.ndarray:
    """The part of a volume, (k, j, i), that its planes are of; float64 as float32.

    Raises
    ------
    InputError
        Naming the volume.
    """
    voxels = naming(plane.entry, lambda: read_volume(plane.entry.path)).voxels[slice(*plane.slices)]
    return voxels.astype(np.float32) if voxels.dtype == np.float64 else voxels


def _decoded(channels: int, planes: list[Plane]) -> np.ndarray:
    """(C, H, W) of a slice, or (k, j, i) of the part of a volume that is used."""
    plane = planes[0]
    if plane.entry.is_volume:
        return read_voxels_of(plane)
    pixels = read_pixels(read_facts(plane.entry.path)).reshape(*plane.size, -1)
    pixels = pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels
    count = pixels.shape[-1] - (pixels.shape[-1] in (2, 4))  # opacity is left out
    pixels = np.moveaxis(pixels[..., :count], -1, 0)
    if count in (1, channels):
        return pixels
    if all(np.array_equal(pixels[0], other) for other in pixels[1:]):
        return pixels[:1].copy()
    raise InputError(
        f"{plane.entry.path} is a colour image, and the network takes {channels} channel{'s' * (channels > 1)}.",
        "Save the slices with one grey value in each pixel.",
    )


def window_of(tallies: Iterable[Tally]) -> Window:
    """The window that was given, or else 0 to 1 for real numbers and the range of the type for integers."""
    tallies = list(tallies)
    if tallies[0].window:
        return tallies[0].window
    types = {kind for tally in tallies for kind in tally.types}
    if len(types) > 1:
        raise OptionError(
            f"The images are of different types: {', '.join(sorted(map(str, types)))}.",
            "Give normalization_range, the grey values that become 0 and 1.",
        )
    (kind,) = types
    if kind.kind == "f":
        return Window(0, 1, "real numbers")
    return Window(np.iinfo(kind).min, np.iinfo(kind).max, f"the range of {kind}")


class PixelCache:
    """Keeps arrays as they are, in their own type.

    Parameters
    ----------
    nbytes : int
        Of all arrays that will come, at most.
    limit_gb : float or None
        Memory they may take in this process; None: its share of a quarter of what is free. If they need more, all of
        them go to a file.
    folder : Path
        For that file. It is gone when the process ends, however it ends.

    Raises
    ------
    ResourceError, OutputError
        If the disk has no room for the file.
    """

    def __init__(self, nbytes: int, limit_gb: float | None, folder: Path) -> None:
        limit = available_memory() / 4 / int(os.environ.get(PROCESSES, 1)) if limit_gb is None else limit_gb * GB
        self.nbytes = nbytes
        self.is_file = nbytes > limit
        self._file = self._map = None
        self._used = 0
        if self.is_file:
            self._folder = folder if folder.is_dir() else Path(tempfile.gettempdir())
            check_disk(self._folder, nbytes)
            with self._told():
                self._file = tempfile.TemporaryFile(prefix="decoded-", dir=self._folder)  # noqa: SIM115 - see `close`
                if hasattr(os, "posix_fallocate"):  # better to fail now than after an hour of reading
                    os.posix_fallocate(self._file.fileno(), 0, nbytes)
                self._file.truncate(nbytes)
                self._map = np.memmap(self._file, np.uint8, "r", shape=(nbytes,))

    def keep(self, pixels: np.ndarray) -> np.ndarray:
        """The array itself, or its copy in the file, read only.

        The copy is written, not mapped for writing: where a disk fills up, that is an error and no killed process.

        Raises
        ------
        OutputError
        """
        if not self.is_file:
            return pixels
        start, self._used = self._used, self._used + pixels.nbytes
        with self._told():
            self._file.seek(start)
            self._file.write(np.ascontiguousarray(pixels).data)
            self._file.flush()
        return self._map[start : self._used].view(pixels.dtype).reshape(pixels.shape)

    def close(self) -> None:
        """Remove the file as soon as no array of it is in use."""
        if self._file is not None:
            self._map = None
            self._file.close()
            self._file = None

    def __str__(self) -> str:
        return f"{readable(self.nbytes)} of decoded images in {'a mapped file' if self.is_file else 'memory'}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"The decoded images need a file of {readable(self.nbytes)} in {self._folder}, which failed: {error}.",
                "Put path.root on a disk with room, or raise cache_gb.",
            ) from error
