"""How large the pieces of a volume may be, what they need around them, and what they cost: memory, and voxels read.

`tiles` lays the pieces; `plan` decides with what is told here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np

from ..core.interpolate import REACH as CUBIC_REACH
from ..core.memory import available_memory
from ..core.options import Ranges
from ..core.volume import Grid
from ..models.card import ModelCard
from .tiles import Axis, Context, cores, plan_tiles

FUSION_REACH = 12  # voxels of the result on either side that the filters joining three planes look at
BLOCK_MEMORY = 3.4e9  # what a block may take, from reading to writing
BAND_VOXELS = 6e6  # of the result that are enlarged and finished at a time; the bands of a block share its features
FUSION_MEMORY = 1.5e9
FLOATS_OF_BLOCKS = 7  # held at the same time for each output voxel of a band: result, excess and their parts
FLOATS_OF_PASSES = 4  # the same besides, where several passes are joined
FLOATS_OF_FUSION = {"complex64": 10, "complex128": 13}  # with three planes and their spectra, by these' type
FLOATS_OF_MAP = 3  # besides, where the model's disagreement or its error bars are measured
MOST_FOR_TILES = 1.2e9
MOST_FOR_FUSION = 2.0e9
BYTES_OF_BLOCKS = 40
BYTES_OF_AGREEMENT = 6  # for each voxel of the scan that blocks are compared with: its simulation, what was seen
MOST_CUTS = 24  # along an axis
SMALLEST_BLOCK = 16  # voxels along the edge of a core


def context_of(card: ModelCard, factors: tuple[float, float, float], way: str) -> tuple[Context, Context, Context]:
    """What must be read around a piece along (k, j, i)."""
    spec = card.spec
    more = -(-FUSION_REACH // int(factors[0])) if way == "planes" else 0
    halo = more + max(spec.context, spec.decode_context, CUBIC_REACH + spec.slices) if spec.can_be_cut else None
    around = Context(halo, spec.multiple, spec.minimum_size) if spec.can_be_cut else Context(None)
    return (Context(), around, around) if way == "slices" else (around,) * 3


def cut(
    grid: Grid,
    roi: Ranges,
    card: ModelCard,
    factors: tuple[float, float, float],
    way: str,
    context: tuple[Context, Context, Context],
    passes: int,
    has_map: bool,
) -> tuple[tuple[int | None, int | None, int | None], int | None, int | None]:
    """Largest extents of a piece along (k, j, i), of a band of it along k, and the bytes that a block takes.

    Of all cuts whose pieces fit into `BLOCK_MEMORY`, blocks are cut by that with which the network sees the fewest
    voxels: what is read around a piece is computed for nothing.
    """
    if way == "slices":
        return (1, None, None), None, None
    if not card.spec.can_be_cut:
        return (None,) * 3, None, None
    if way == "planes":
        floats = floats_of_fusion() + FLOATS_OF_MAP * has_map
        whole = int((FUSION_MEMORY / (4 * floats * prod(factors))) ** (1 / 3))
        more = -(-FUSION_REACH // int(factors[0]))
        return (max(SMALLEST_BLOCK, whole - 2 * more),) * 3, None, None
    cuts = [
        _cuts(length, start, stop, around)
        for length, (start, stop), around in zip(grid.size[::-1], roi[::-1], context, strict=True)
    ]
    core, read, seen = (np.meshgrid(*(cut[n] for cut in cuts), indexing="ij", sparse=True) for n in range(3))
    needed = _memory_of_a_block(card, factors, core, read, passes, has_map)
    most = max(BLOCK_MEMORY - agreement_memory(roi), BLOCK_MEMORY / 2)
    fits = needed <= min(most, max(available_memory() / 2, BLOCK_MEMORY / 8))
    cost = np.where(fits, prod(seen), np.inf) if fits.any() else needed
    best = np.unravel_index(np.argmin(cost), cost.shape)
    edges = tuple(int(cut[0][n]) for cut, n in zip(cuts, best, strict=True))
    of_slice = prod(edges[1:]) * prod(factors)
    return edges, None if passes > 1 else max(1, int(BAND_VOXELS / of_slice)), int(needed[best])


def floats_of_fusion() -> int:
    """Held at the same time for each output voxel where three planes are joined: NumPy before 2.0 has wider spectra."""
    return FLOATS_OF_FUSION[np.fft.rfft(np.zeros(2, np.float32)).dtype.name]


def agreement_memory(roi: Ranges) -> float:
    """Bytes that a result of blocks takes besides while it is compared with its scan."""
    return BYTES_OF_AGREEMENT * prod(stop - start for start, stop in roi)


@lru_cache
def _cuts(length: int, start: int, stop: int, around: Context) -> np.ndarray:
    """Of a region in one, two, ... parts: largest core, largest reading, and the sum of all readings; (3, cuts)."""
    found = []
    for count in range(1, min(MOST_CUTS, max(1, -(-(stop - start) // SMALLEST_BLOCK))) + 1):
        edge = -(-(stop - start) // count)
        parts = [around.reading(core, slice(0, length)) for core in cores(slice(start, stop), edge)]
        reads = [part.stop - part.start for part in parts]
        found.append((edge, max(reads), sum(reads)))
    return np.array(found, float).T


def _memory_of_a_block(
    card: ModelCard, factors: tuple[float, float, float], core: Sequence, read: Sequence, passes: int, has_map: bool
) -> np.ndarray:
    """Bytes that a block takes at the peak: encoded, or decoded while its features are still there.

    `core` and `read` are its extents along (k, j, i), numbers or arrays.
    """
    spec, enlarged = card.spec, prod(factors)
    encode, outputs = prod(read) * spec.encode_bytes, prod(core) * enlarged
    decode = np.minimum(outputs * spec.decode_bytes, MOST_FOR_TILES)
    if passes == 1:
        outputs = np.minimum(outputs, np.maximum(BAND_VOXELS, core[1] * core[2] * enlarged))
    floats = FLOATS_OF_BLOCKS + FLOATS_OF_PASSES * (passes > 1) + FLOATS_OF_MAP * has_map
    return np.maximum(encode, encode / 2 + decode) + 4 * floats * outputs


def voxels_of_a_pass(
    grid: Grid,
    roi: Ranges,
    factors: tuple[float, float, float],
    way: str,
    edges: tuple[int | None, int | None, int | None],
    context: tuple[Context, Context, Context],
) -> int:
    """Voxels that the network sees when it sees everything once: what all pieces read together.

    Of three planes, each sees what a piece reads in its plane, in those slices across it that the fusion looks at.
    """
    read, across = [], []  # along (k, j, i); `across` is asked for where pieces have surroundings along all axes
    for length, (start, stop), edge, around in zip(grid.size[::-1], roi[::-1], edges, context, strict=True):
        if around == Context():  # nothing but the pieces themselves
            read.append(stop - start)
            continue
        pieces = plan_tiles([Axis(length, start, stop, stop - start)], edge, around)
        read.append(sum(part.stop - part.start for piece in pieces for part in piece.read))
        reach = -(-FUSION_REACH // int(factors[0])) + CUBIC_REACH
        seen = [(max(0, part.start - reach), min(length, part.stop + reach)) for piece in pieces for part in piece.core]
        across.append(sum(end - begin for begin, end in seen))
    if way != "planes":
        return prod(read)
    return sum(prod(across[axis] if axis == normal else read[axis] for axis in range(3)) for normal in range(3))


def working_memory(
    grid: Grid,
    roi: Ranges,
    card: ModelCard,
    factors: tuple[float, float, float],
    way: str,
    context: tuple[Context, Context, Context],
    passes: int,
) -> int:
    """One tile or block, and a few slices of the result; a network that cannot be cut takes everything at once."""
    spec = card.spec
    read = [
        around.reading(slice(*part), slice(0, n)) for around, part, n in zip(context[::-1], roi, grid.size, strict=True)
    ]
    i, j, k = (part.stop - part.start for part in read)
    piece = i * j * (k if way == "blocks" else 1)
    encode = piece * spec.encode_bytes
    decode = piece * spec.decode_bytes * prod(factors[: spec.dimensions])
    tile = min(encode + decode, MOST_FOR_TILES) if spec.can_be_cut else encode + min(decode, MOST_FOR_TILES)
    slices = (8 if passes == 1 and way != "planes" else 14) * 4 * i * j * factors[0] * factors[1]
    if way == "slices":
        return int(tile + slices)
    whole = i * j * k * prod(factors) * (4 * floats_of_fusion() if way == "planes" else BYTES_OF_BLOCKS)
    return int(tile + slices + (min(MOST_FOR_FUSION, whole) if spec.can_be_cut else whole))
