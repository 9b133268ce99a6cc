"""What a run will need and give, before anything is computed.

What speaks against using a model for a volume, before anything runs. Needs no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError, OptionError, ResourceError
from ..core.memory import available_memory, readable
from ..core.options import Options
from ..core.volume import Grid, scaled_size
from ..io.volume import Volume
from ..models.card import ModelCard
from ..models.folder import user_models_folder

PROGRAM_MEMORY = 0.6e9
GUESSED_FLOPS_PER_CORE = 30e9
LARGEST_SPACING_RATIO = 1.5
UNKNOWN_HALO = 32
MOST_FOR_TILES = 1.2e9
MOST_FOR_BLOCKS = 2.0e9
BYTES_OF_BLOCKS = 40


@dataclass(frozen=True)
class Estimate:
    """Needs of a run.

    Attributes
    ----------
    grid : Grid
        Where the result's voxels will be.
    dtype : numpy.dtype
        Type of the result.
    output_bytes, memory_bytes : int
        Size of the result, and of everything the worker holds at its peak.
    seconds : float
        Time to compute; from earlier runs of this model on this machine, otherwise guessed.
    measured : bool
        Whether `seconds` comes from earlier runs.
    beside_bytes : int
        Size of the second volume, if disagreement is to be measured.
    """

    grid: Grid
    dtype: np.dtype
    output_bytes: int
    memory_bytes: int
    seconds: float
    measured: bool
    beside_bytes: int = 0


def scales(card: ModelCard, options: Options) -> tuple[float, float, float]:
    """Factors along (i, j, k) that a model and the options mean together.

    Raises
    ------
    OptionError
        If the model does not offer the factor that is asked for.
    """
    spec = card.spec
    factor = spec.scale and spec.scale[-1]
    if factor is None:
        lowest, highest = spec.scale_range[-1]
        factor = min(max(2.0, lowest), highest) if options.scale is None else options.scale
        if not lowest <= factor <= highest:
            raise OptionError(f"The model {card.name} offers factors from {lowest:g} to {highest:g}, not {factor:g}.")
    elif options.scale not in (None, factor):
        raise OptionError(
            f"The model {card.name} enlarges by {factor:g}, not by {options.scale:g}.", "Leave the factor out."
        )
    if spec.dimensions == 3 or options.planes == "isotropic":
        return (float(factor),) * 3
    return (float(factor), float(factor), 1.0)


def region(grid: Grid, options: Options) -> tuple[tuple[int, int], ...]:
    """The ROI along (i, j, k), or the whole volume.

    Raises
    ------
    OptionError
        If the ROI is empty or lies outside the volume.
    """
    if options.roi is None:
        return tuple((0, n) for n in grid.size)
    for name, (start, stop), n in zip("ijk", options.roi, grid.size, strict=True):
        if not 0 <= start < stop <= n:
            raise OptionError(
                f"The ROI's range {start}:{stop} along {name} is empty or outside the volume (0:{n}).",
                "Give a box inside the volume.",
            )
    return options.roi


def output_grid(grid: Grid, card: ModelCard, options: Options) -> Grid:
    """Grid of the result: the ROI's physical extent, more finely sampled.

    Raises
    ------
    OptionError, InputError
        If the options do not fit the model or the volume.
    """
    if options.planes == "isotropic" and card.spec.dimensions == 2:
        _check_isotropic(grid, scales(card, options)[0])
    box = region(grid, options)
    cropped = grid.cropped([start for start, _ in box], [stop for _, stop in box])
    return cropped.resampled(scaled_size(cropped.size, scales(card, options)))


def output_type(dtype: np.dtype, options: Options) -> np.dtype:
    """Type of the result: what was asked for, otherwise the input's."""
    return np.dtype(options.dtype) if options.dtype else np.dtype(dtype)


def estimate(grid: Grid, dtype: np.dtype, card: ModelCard, options: Options = Options()) -> Estimate:
    """Predict the result and what it costs.

    Raises
    ------
    OptionError, InputError
        If the options do not fit the model or the volume.
    """
    result = output_grid(grid, card, options)
    kind = output_type(dtype, options)
    output_bytes = int(np.prod(result.size, dtype=np.int64)) * kind.itemsize
    input_bytes = int(np.prod(grid.size, dtype=np.int64)) * np.dtype(dtype).itemsize
    seconds, measured = _seconds(grid, card, options)
    beside_bytes = output_bytes // kind.itemsize * 4 if options.uncertainty else 0
    memory = input_bytes + output_bytes + beside_bytes + _working_memory(grid, card, options) + int(PROGRAM_MEMORY)
    return Estimate(result, kind, output_bytes, memory, seconds, measured, beside_bytes)


def check_resources(
    volume: Volume, card: ModelCard, options: Options, output_path: str | Path | None = None
) -> Estimate:
    """Refuse, with the numbers, a run whose result would not fit into memory or onto the disk.

    Raises
    ------
    ResourceError
    """
    need = estimate(volume.grid, volume.voxels.dtype, card, options)
    advice = "Choose an ROI, planes axial, or a smaller output type such as int16."
    to_come = need.memory_bytes - volume.voxels.nbytes
    if to_come > available_memory():
        raise ResourceError(
            f"The result, {_size_text(need.grid)} voxels of {need.dtype} ({readable(need.output_bytes)}), needs about "
            f"{readable(to_come)} of memory, but only {readable(available_memory())} are free.",
            advice,
        )
    if output_path is not None:
        free = shutil.disk_usage(Path(output_path).absolute().parent).free
        wanted = need.output_bytes + need.beside_bytes
        if wanted > free:
            raise ResourceError(
                f"The result takes {readable(wanted)} on disk, but only {readable(free)} are free in "
                f"{Path(output_path).absolute().parent}.",
                f"{advice} Or choose another disk.",
            )
    return need


def record_speed(card: ModelCard, device: str, voxels: float, seconds: float) -> None:
    """Remember how fast a model was, so that the next estimate is better. Failing to is no failure."""
    if seconds < 0.5 or not card.weights_sha256:
        return
    path = _speed_file()
    try:
        known = _known_speeds()
        known[_speed_key(card, device)] = voxels / seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(known, indent=1), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        warnings.warn(f"The speed could not be recorded: {error}", stacklevel=2)


def passes_over(card: ModelCard, options: Options) -> int:
    """How often each voxel goes through the network."""
    return _planes(card, options) * (options.ensemble + options.uncertainty)


def _planes(card: ModelCard, options: Options) -> int:
    """In how many planes each voxel is looked at."""
    return 3 if options.planes == "isotropic" and card.spec.dimensions == 2 else 1


def _seconds(grid: Grid, card: ModelCard, options: Options) -> tuple[float, bool]:
    voxels = float(np.prod([stop - start for start, stop in region(grid, options)])) * passes_over(card, options)
    device = "cpu" if options.device == "cpu" else "any"
    speeds = _known_speeds()
    rates = [speeds[key] for key in (_speed_key(card, device), _speed_key(card, "cpu")) if key in speeds]
    if rates:
        return voxels / rates[0], True
    flops = max(card.spec.flops_per_voxel(scales(card, options)[: card.spec.dimensions]), 1e4)
    return voxels * flops / (GUESSED_FLOPS_PER_CORE * (os.cpu_count() or 1)), False


def _known_speeds() -> dict[str, float]:
    try:
        return {str(key): float(value) for key, value in json.loads(_speed_file().read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _speed_file() -> Path:
    return user_models_folder() / "speed.json"


def _speed_key(card: ModelCard, device: str) -> str:
    return f"{card.weights_sha256[:16]} {'cpu' if device == 'cpu' else 'any'}"


def _working_memory(grid: Grid, card: ModelCard, options: Options) -> int:
    """One tile or block, and a few slices of the result."""
    spec, factor = card.spec, scales(card, options)[0]
    context = 2 * (spec.context if spec.can_be_cut else UNKNOWN_HALO)
    i, j, k = (
        min(n, stop - start + context) for n, (start, stop) in zip(grid.size, region(grid, options), strict=True)
    )
    piece = i * j * (k if spec.dimensions == 3 else 1)
    encode, decode = piece * spec.encode_bytes, piece * spec.decode_bytes * factor**spec.dimensions
    tile = min(encode + decode, MOST_FOR_TILES) if spec.can_be_cut else encode + min(decode, MOST_FOR_TILES)
    slices = (8 if passes_over(card, options) == 1 else 14) * 4 * i * j * factor**2
    if _planes(card, options) == 1 and spec.dimensions == 2:
        return int(tile + slices)
    whole = i * j * k * factor**3 * BYTES_OF_BLOCKS
    return int(tile + slices + (min(MOST_FOR_BLOCKS, whole) if spec.can_be_cut else whole))


def _check_isotropic(grid: Grid, factor: float) -> None:
    if factor != int(factor):
        raise OptionError(
            f"Three planes can be joined only for whole factors, not for {factor:g}.", "Choose planes axial."
        )
    ratio = max(grid.spacing) / min(grid.spacing)
    if ratio > LARGEST_SPACING_RATIO:
        raise InputError(
            f"The spacing {' x '.join(f'{s:.3g}' for s in grid.spacing)} mm differs by a factor of {ratio:.2g} between "
            f"the axes; above {LARGEST_SPACING_RATIO} coronal and sagittal planes do not look like what the network "
            "learned.",
            "Choose planes axial, or export the scan with (nearly) cubic voxels.",
        )


def _size_text(grid: Grid) -> str:
    return " x ".join(str(n) for n in grid.size)


def warnings_for(volume: Volume, card: ModelCard, options: Options) -> list[str]:
    """What speaks against using a model for a volume, in words for the user."""
    found = []
    *in_plane, between = volume.spacing
    if card.voxel_size_mm:
        smallest, largest = card.voxel_size_mm
        if min(in_plane) < 0.95 * smallest or max(in_plane) > 1.05 * largest:
            found.append(
                f"The voxel size {in_plane[0]:.3g} x {in_plane[1]:.3g} mm is outside the model's range of {smallest:g} "
                f"to {largest:g} mm."
            )
    if max(in_plane) > 1.05 * min(in_plane):
        found.append("The pixels are not square; the network learned from square ones.")
    slicewise = options.planes == "axial" and card.spec.dimensions == 2
    if slicewise and between > LARGEST_SPACING_RATIO * max(in_plane):
        found.append(f"The slices are {between:.3g} mm apart; only their plane gets sharper.")
    return found


def spacing_suspicion(grid: Grid) -> str:
    """A sentence if the voxel size looks as if it had been lost on the way; "" otherwise."""
    if not np.allclose(grid.spacing, 1.0, atol=1e-6):
        return ""
    return "The spacing is exactly 1 x 1 x 1 mm, as in files that have lost theirs: set it in the module Volumes."
