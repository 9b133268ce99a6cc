"""Running a network on an image or block of any size: device, precision, tiles, and what to do when things fail."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, prod

import numpy as np
import torch
from torch import Tensor, nn

from ..core.devices import (
    DTYPES,
    choose_device,
    free_memory,
    is_out_of_memory,
    rounding,
)
from ..core.errors import Cancelled, ModelError, ResourceError
from ..core.memory import readable
from ..networks.blocks import ResidualDenseBlock, Scratch
from ..networks.spec import NetworkSpec
from .tiles import (
    AS_IT_IS,
    Axis,
    Box,
    Context,
    Symmetry,
    Tile,
    on_whole_cells,
    plan_tiles,
    shift,
    symmetries,
)

log = logging.getLogger(__name__)

TILE_MEMORY = {"cpu": 1.1e9, "cuda": 6e9}
SMALLEST_TILE = 16
CPU_PART = 256  # larger parts of the enlarged image live in memory that the system must clear anew each time
EQUAL_PSNR = 60.0
FLAT = 0.02  # standard deviation below which a tile says nothing about precision


class Engine:
    """One network, ready to run on one device.

    >>> engine = Engine(model.network, model.card.spec, device="auto")
    >>> axes = [Axis(length=400, start=0, stop=400, outputs=800)] * 2
    >>> (whole,) = plan_tiles(axes, edge=None, halo=0)
    >>> enlarged = engine.run(image, axes, whole)

    Parameters
    ----------
    network : torch.nn.Module
        Stays untouched; the engine works with copies.
    spec : NetworkSpec
        With the calibrated context, if there is one.
    device, precision, tile, ensemble : see `Options`
    cancelled : callable, optional
        Asked before every layer or dense block of the network; `Cancelled` is raised as soon as it answers True.

    Attributes
    ----------
    notes : list of str
        What a report should mention: retries, smaller tiles, the choice of a precision.
    after_run : callable
        Called with the number of times so far that the network has seen an image: after each `run`, and in an ensemble
        after each position.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: NetworkSpec,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        cancelled: Callable[[], bool] | None = None,
        ensemble: int = 1,
    ) -> None:
        if tile and not spec.can_be_cut:
            raise ModelError(
                "This model's halo is not known, so its slices cannot be cut into tiles without seams.",
                "Leave the tile size open, or calibrate the model: cbct-superres models calibrate MODEL.",
            )
        self.spec = spec
        self.device = choose_device(device)
        self.precision = "fp32" if precision == "auto" else precision
        self.tile = tile
        self.notes: list[str] = []
        self.after_run: Callable[[int], None] = lambda runs: None
        self._runs = 0
        self._to_be_measured = precision == "auto" and self.device.type == "cuda"
        self._symmetries = symmetries(ensemble, spec.dimensions)
        self._network = network
        self._prepared: dict[str, nn.Module] = {}
        self._scratch = Scratch()
        self._cancelled = cancelled or (lambda: False)
        self._budget = min(TILE_MEMORY[self.device.type], free_memory(self.device) * 0.6)

    def run(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile) -> np.ndarray:
        """The network's output for a part of an image or block.

        Parameters
        ----------
        image : ndarray of float32, shape (rows, columns) or (slices, rows, columns)
            In units of the window. For a 2-D network that sees neighbouring slices: (2 spec.slices + 1, rows, columns).
        axes : sequence of Axis
            For each of the network's axes: the region, and how many output voxels it becomes.
        whole : Tile
            The part to compute, and what may be read for it. It is cut into tiles as memory demands.

        Returns
        -------
        ndarray of float32
            One value for each voxel of `whole.write`, in units of the window.

        Raises
        ------
        ResourceError
            If not even the smallest tile fits into memory.
        ModelError
            If the network gives values that are not finite, even in float32.
        """
        if self._symmetries == (AS_IT_IS,):
            return self._counted(image, axes, whole)
        view = on_whole_cells(image, axes, whole, self.spec.multiple)
        total = sum(symmetry.undo(self._counted(*symmetry.apply(*view))) for symmetry in self._symmetries)
        total /= self.ensemble
        return total

    @contextmanager
    def in_position(self, symmetry: Symmetry) -> Iterator[None]:
        """For a while the network sees every image once, in this position."""
        before, self._symmetries = self._symmetries, (symmetry,)
        try:
            yield
        finally:
            self._symmetries = before

    @property
    def ensemble(self) -> int:
        """How many times the network sees each image."""
        return len(self._symmetries)

    def _counted(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile) -> np.ndarray:
        result = self._run_with_less_memory_if_needed(image, axes, whole)
        self._runs += 1
        self.after_run(self._runs)
        return result

    def _run_with_less_memory_if_needed(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile) -> np.ndarray:
        while True:
            try:
                return self._run(image, axes, whole)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take_smaller_tiles(error, axes, whole)

    @torch.inference_mode()
    def _run(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile) -> np.ndarray:
        result = np.empty([part.stop - part.start for part in whole.write], np.float32)
        tiles = self._encode_tiles(axes, whole)
        for tile in tiles:
            if self._cancelled():
                raise Cancelled
            if self._to_be_measured and image[(..., *tile.read)].std() > FLAT:
                self.precision = self._measure_precision(image, tile, axes)
                self._to_be_measured = False
            parts = self._run_checked(image, tile, axes)
            if len(tiles) == len(parts) == 1:
                return parts[0][1]
            for box, values in parts:
                result[shift(box, whole.write)] = values
        return result

    def _run_checked(self, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> list[tuple[Box, np.ndarray]]:
        """The parts of one tile; whatever is not finite in reduced precision is computed again in float32."""
        parts = self._run_tile(image, tile, axes, self.precision)
        if all(np.isfinite(values).all() for _, values in parts):
            return parts
        if self.precision == "fp32":
            raise ModelError(
                "The network gave values that are not finite.", "The model is damaged or not made for such a scan."
            )
        self._note(f"A tile was not finite in {self.precision} and was computed again in fp32.")
        self.precision = "fp32"
        return self._run_checked(image, tile, axes)

    def _run_tile(
        self, image: np.ndarray, tile: Tile, axes: Sequence[Axis], precision: str
    ) -> list[tuple[Box, np.ndarray]]:
        network = self._network_in(precision)
        with rounding(precision):
            features = network.encode(self._to_device(image[(..., *tile.read)], DTYPES[precision]))
            return [
                (part.write, self._decode(network, features, tile, part, axes))
                for part in self._decode_tiles(axes, tile)
            ]

    def _decode(self, network: nn.Module, features: Tensor, tile: Tile, part: Tile, axes: Sequence[Axis]) -> np.ndarray:
        piece = features[(..., *shift(part.read, tile.read))]
        if self.spec.scale is None:
            positions = [
                torch.as_tensor(axis.positions(write) - read.start, dtype=torch.float32, device=self.device)
                for axis, write, read in zip(axes, part.write, part.read, strict=True)
            ]
            values = network.decode(piece, positions)["sr"]
        else:
            inner = tuple(
                slice(s.start * int(factor), s.stop * int(factor))
                for s, factor in zip(shift(part.core, part.read), self.spec.scale, strict=True)
            )
            values = network.decode(piece)["sr"][(..., *inner)]
        values = values[0, 0] if self.spec.channels == 1 else values[0].float().mean(0)
        return values.float().cpu().numpy()

    def _to_device(self, image: np.ndarray, dtype: torch.dtype) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
        tensor = tensor if self.spec.slices else tensor[None]
        tensor = _padded(tensor, self.spec.minimum_size, self.spec.multiple)
        tensor = tensor.expand(-1, self.spec.input_channels, *[-1] * self.spec.dimensions)
        return tensor.to(self.device, dtype).contiguous(memory_format=self._memory_format())

    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.spec.dimensions == 2 else torch.channels_last_3d

    def _network_in(self, precision: str) -> nn.Module:
        """A copy of the network for this device and precision; made once."""
        key = "fp32" if precision == "tf32" else precision
        if key not in self._prepared:
            network = copy.deepcopy(self._network).eval().requires_grad_(False)
            network.to(self.device, DTYPES[key], memory_format=self._memory_format())
            for name in getattr(network, "full_precision", ()):
                network.get_submodule(name).float().register_forward_pre_hook(_float_input)
            for module in network.modules():
                module.register_forward_pre_hook(self._stop_if_cancelled)
                if isinstance(module, ResidualDenseBlock) and self.device.type == "cpu":
                    module.scratch = self._scratch
            self._prepared[key] = network
        return self._prepared[key]

    def _stop_if_cancelled(self, module: nn.Module, inputs: tuple) -> None:
        if self._cancelled():
            raise Cancelled

    def _measure_precision(self, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> str:
        """fp16 if it gives the same picture of a tile as fp32, otherwise fp32."""
        exact, rounded = (
            np.concatenate([values.ravel() for _, values in self._run_tile(image, tile, axes, precision)])
            for precision in ("fp32", "fp16")
        )
        error = float(np.mean((exact - rounded) ** 2)) if np.isfinite(rounded).all() else float("inf")
        psnr = -10 * np.log10(max(error, 1e-12))
        chosen = "fp16" if psnr >= EQUAL_PSNR else "fp32"
        self._note(f"Precision {chosen}: fp16 agrees with fp32 to {psnr:.0f} dB.")
        return chosen

    def _encode_tiles(self, axes: Sequence[Axis], whole: Tile) -> list[Tile]:
        everything = max(axis.length for axis in axes)
        halo = max(self.spec.context, self.spec.decode_context) if self.spec.can_be_cut else everything
        context = Context(halo, self.spec.multiple, self.spec.minimum_size)
        return plan_tiles(axes, self._encode_edge(whole), context, within=whole)

    def _decode_tiles(self, axes: Sequence[Axis], tile: Tile) -> list[Tile]:
        edge = self._edge_if_needed(tile, self._decode_bytes(axes), self.spec.decode_context)
        if self.device.type == "cpu":
            edge = min(edge or CPU_PART, CPU_PART)
        return plan_tiles(axes, edge, self.spec.decode_context, within=tile)

    def _largest_pieces(self, axes: Sequence[Axis], whole: Tile) -> tuple[Tile, Tile]:
        """The tile that `encode` reads most for, and the part of it that `decode` does."""
        tile = max(self._encode_tiles(axes, whole), key=_size)
        return tile, max(self._decode_tiles(axes, tile), key=_size)

    @property
    def _may_cut(self) -> bool:
        return self.spec.can_be_cut and self.tile != 0

    def _encode_edge(self, whole: Tile) -> int | None:
        """Largest core of a tile that fits the memory, or None where nothing needs to be cut."""
        if not self._may_cut:
            return None
        return self.tile or self._edge_if_needed(whole, self.spec.encode_bytes, self.spec.context)

    def _edge_if_needed(self, tile: Tile, bytes_per_voxel: float, halo: int) -> int | None:
        if self._need(tile, bytes_per_voxel) <= self._budget:
            return None
        voxels = self._budget / max(1.0, self._bytes(bytes_per_voxel))
        return max(SMALLEST_TILE, int(voxels ** (1 / self.spec.dimensions)) - 2 * halo)

    def _decode_bytes(self, axes: Sequence[Axis]) -> float:
        """Memory of `decode` for one input voxel."""
        return self.spec.decode_bytes * prod(axis.scale for axis in axes)

    def _need(self, tile: Tile, bytes_per_voxel: float) -> float:
        return _size(tile) * self._bytes(bytes_per_voxel)

    def _bytes(self, float32_bytes: float) -> float:
        return float32_bytes / 2 if self.precision in ("bf16", "fp16") else float32_bytes

    def _take_smaller_tiles(self, error: BaseException, axes: Sequence[Axis], whole: Tile) -> None:
        """Halve what the next tiles may need, starting from what those that failed needed."""
        self._scratch.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        failed = self._largest_pieces(axes, whole)
        encode_need = self._need(failed[0], self.spec.encode_bytes) if self._may_cut else 0.0
        decode_need = self._need(failed[1], self._decode_bytes(axes))
        self._budget = min(self._budget, max(encode_need, decode_need)) / 2
        self.tile = self.tile and max(SMALLEST_TILE, self.tile // 2)
        if self._largest_pieces(axes, whole) == failed:
            raise ResourceError(
                f"The memory of {self.device} is not enough for this model.",
                "Close other programs, choose an ROI, a lighter model, or --device cpu.",
            ) from error
        self._note(f"Memory ran out on {self.device}; tiles now take at most {readable(self._budget)}.")

    def _note(self, text: str) -> None:
        log.info(text)
        self.notes.append(text)


def _size(tile: Tile) -> int:
    return prod(part.stop - part.start for part in tile.read)


def _float_input(module: nn.Module, inputs: tuple) -> tuple:
    return tuple(x.float() for x in inputs)


def _padded(x: Tensor, minimum: int, multiple: int) -> Tensor:
    """Repeat the last row, column, ... until the network accepts the size; what that adds is never kept."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        missing = ceil(max(minimum, length) / multiple) * multiple - length
        if missing > 0:
            edge = x.narrow(axis, length - 1, 1)
            x = torch.cat((x, edge.expand(*[missing if n == axis else -1 for n in range(x.ndim)])), axis)
    return x
