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

from ..core.devices import DTYPES, bfloat16_pays, choose_device, free_memory, is_out_of_memory, rounding
from ..core.errors import Cancelled, ModelError, ResourceError
from ..core.memory import readable
from ..networks.spec import NetworkSpec
from .tile_sizes import BLOCK_MEMORY
from .tiles import AS_IT_IS, Axis, Box, Context, Symmetry, Tile, on_whole_cells, plan_tiles, shift, symmetries

log = logging.getLogger(__name__)

TILE_MEMORY = {"cpu": 1.1e9, "cuda": 6e9}
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of a tensor's axes
SMALLEST_TILE = 16
CPU_PART = 256  # larger parts of the enlarged image live in memory that the system must clear anew each time
EQUAL_PSNR = {"fp16": 60.0, "bf16": 50.0}  # dB of the window
SHARE_OF_NOISE = 0.33  # of the scan's noise, that the rounding of bfloat16 may be
PROBE = 64  # edge of the part of a tile on which precisions are compared
FLAT = 0.02  # standard deviation below which a tile says nothing about precision


class Engine:
    """One network, ready to run on one device.

    >>> engine = Engine(model.network, model.card.spec, device="auto")
    >>> axes = [Axis(length=400, start=0, stop=400, outputs=800)] * 2
    >>> (whole,) = plan_tiles(axes, edge=None, context=0)
    >>> enlarged = engine.run(image, axes, whole)

    Parameters
    ----------
    network : torch.nn.Module
        As networks/__init__.py says. Stays untouched; the engine works with copies.
    spec : NetworkSpec
        With the calibrated context, if there is one.
    device, precision, tile, ensemble : see `Options`
    cancelled : callable, optional
        Asked before every layer or block of the network; `Cancelled` is raised as soon as it answers True.
    noise : float
        Standard deviation of the images' noise, in units of the window, for networks that want to be told.
    scan_noise : float
        Standard deviation of the noise that is known to be in the images, in units of the window; 0 if none is. On a
        CPU, precision "auto" is bfloat16 only where that rounds far less than this.

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
        noise: float = 0.0,
        scan_noise: float = 0.0,
    ) -> None:
        if tile and not spec.can_be_cut:
            raise ModelError(
                "This model's slices cannot be cut into tiles without seams: "
                + ("it looks at all of a slice." if spec.context == "global" else "its halo is not known."),
                "Leave the tile size open."
                if spec.context == "global"
                else "Leave the tile size open, or calibrate the model: cbct-superres models calibrate MODEL.",
            )
        self.spec = spec
        self.device = choose_device(device)
        self.precision = "fp32" if precision == "auto" else precision
        self.tile = tile
        self.noise = noise
        self.notes: list[str] = []
        self.after_run: Callable[[int], None] = lambda runs: None
        self._runs = 0
        self._scan_noise = scan_noise
        self._candidate: str | None = None  # a precision that is yet to be compared with fp32
        if precision == "auto" and self.device.type == "cuda":
            self._candidate = "fp16"
        elif precision == "auto" and scan_noise > 0 and bfloat16_pays():
            self._candidate = "bf16"
        self._symmetries = symmetries(ensemble, spec.dimensions)
        self._draw: int | None = None
        self._network = network
        self._copies: dict[torch.dtype, nn.Module] = {}
        self._cancelled = cancelled or (lambda: False)
        usual = TILE_MEMORY[self.device.type]
        most = max(usual, BLOCK_MEMORY) if spec.dimensions == 3 else usual
        self._budget = min(most, free_memory(self.device) * 0.6)
        self._kept: tuple[np.ndarray, Box, str, Tensor] | None = None

    @property
    def ensemble(self) -> int:
        """How many times the network sees each image."""
        return len(self._symmetries)

    @contextmanager
    def one_pass(self, symmetry: Symmetry = AS_IT_IS, draw: int | None = None) -> Iterator[None]:
        """For a while the network sees every image once: in this position, its stochastic layers drawn from a seed.

        Without a seed they do nothing. With one, every tile of every image meets the same draw, so that tiles join.
        """
        before = self._symmetries, self._draw
        self._symmetries, self._draw = (symmetry,), draw if self.spec.stochastic else None
        try:
            yield
        finally:
            self._symmetries, self._draw = before

    def run(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile) -> np.ndarray:
        """The network's image for a part of an image or block.

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
            One value for each voxel of `whole.write`, in units of the (output) window.

        Raises
        ------
        ResourceError
            If not even the smallest tile fits into memory.
        ModelError
            If the network gives values that are not finite, even in float32.
        """
        return self.run_outputs(image, axes, whole, ("sr",))[0]

    def run_outputs(
        self, image: np.ndarray, axes: Sequence[Axis], whole: Tile, names: Sequence[str]
    ) -> list[np.ndarray]:
        """As `run`, for several outputs of the network's `decode` at once.

        In an ensemble they are means over the positions; of a log-variance, the logarithm of the variances' mean.
        """
        if self._symmetries == (AS_IT_IS,):
            return list(self._run(image, axes, whole, names))
        view = on_whole_cells(image, axes, whole, self.spec.multiple)
        logarithms = [n for n, name in enumerate(names) if self.spec.outputs.get(name) == "log_variance"]
        total: np.ndarray | float = 0.0
        for symmetry in self._symmetries:
            values = symmetry.undo(self._run(*symmetry.apply(*view), names))
            for n in logarithms:
                values[n] = np.exp(values[n])
            total = total + values
        total /= self.ensemble
        for n in logarithms:
            total[n] = np.log(total[n])
        return list(total)

    def _run(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile, names: Sequence[str]) -> np.ndarray:
        """One pass of the network, (names, *whole.write); begun again with smaller tiles where memory runs out."""
        while True:
            try:
                result = self._run_tiles(image, axes, whole, names)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take_smaller_tiles(error, axes, whole)
            else:
                self._runs += 1
                self.after_run(self._runs)
                return result

    @torch.inference_mode()
    def _run_tiles(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile, names: Sequence[str]) -> np.ndarray:
        result = np.empty((len(names), *(part.stop - part.start for part in whole.write)), np.float32)
        tiles = self._encode_tiles(axes, whole)
        for tile in tiles:
            if self._cancelled():
                raise Cancelled
            if self._candidate and image[(..., *tile.read)].std() > FLAT:
                self.precision = self._measured_precision(self._candidate, image, tile, axes)
                self._candidate = None
            parts = self._run_tile(image, tile, axes, names, self.precision)
            if self.precision != "fp32" and not _are_finite(parts):
                self._note(f"A tile was not finite in {self.precision} and was computed again in fp32.")
                self.precision = "fp32"
                parts = self._run_tile(image, tile, axes, names, "fp32")
            if not _are_finite(parts):
                raise ModelError(
                    "The network gave values that are not finite.",
                    "The model is damaged or not made for such a scan.",
                )
            if len(tiles) == len(parts) == 1:
                return parts[0][1]
            for box, values in parts:
                result[(..., *shift(box, whole.write))] = values
        return result

    def _run_tile(
        self, image: np.ndarray, tile: Tile, axes: Sequence[Axis], names: Sequence[str], precision: str
    ) -> list[tuple[Box, np.ndarray]]:
        """What `decode` gives for the parts of one tile, and where it belongs."""
        network, dtype = self._copy_for(DTYPES[precision]), DTYPES[precision]
        known = {"blur": [axis.blur for axis in axes], "noise": [self.noise]}
        conditions = {
            name: torch.tensor([known[name]], dtype=dtype, device=self.device) for name in self.spec.conditions
        }
        with rounding(precision):
            features = self._features_of(network, image, tile, conditions, precision)
            parts = []
            for part in self._decode_tiles(axes, tile):
                piece = features[(..., *shift(part.read, tile.read))]
                with self._drawn(network, 1):
                    parts.append((part.write, self._decode(network, piece, part, axes, names)))
        return parts

    def _features_of(
        self, network: nn.Module, image: np.ndarray, tile: Tile, conditions: dict[str, Tensor], precision: str
    ) -> Tensor:
        """What `encode` gives for a tile. The bands of a block follow each other and share theirs, see `Plan.band`."""
        is_shared = self.spec.dimensions == 3 and self._symmetries == (AS_IT_IS,) and self._draw is None
        if is_shared and self._kept and self._kept[0] is image and self._kept[1:3] == (tile.read, precision):
            return self._kept[3]
        self._kept = None  # its memory is given back first
        x = self._to_device(image[(..., *tile.read)], DTYPES[precision])
        with self._drawn(network, 0):
            features = network.encode(x, conditions) if conditions else network.encode(x)
        if is_shared:
            self._kept = image, tile.read, precision, features
        return features

    def _decode(
        self, network: nn.Module, features: Tensor, part: Tile, axes: Sequence[Axis], names: Sequence[str]
    ) -> np.ndarray:
        if self.spec.scale is None:
            positions = [
                torch.as_tensor(axis.positions(write) - read.start, dtype=torch.float32, device=self.device)
                for axis, write, read in zip(axes, part.write, part.read, strict=True)
            ]
            places = [
                (axis.before + read.start, axis.before + axis.length + axis.after)
                for axis, read in zip(axes, part.read, strict=True)
            ]
            told = (positions, places) if self.spec.absolute else (positions,)
            found, inner = network.decode(features, *told), ()
        else:
            found = network.decode(features)
            inner = tuple(
                slice(core.start * int(factor), core.stop * int(factor))
                for core, factor in zip(shift(part.core, part.read), self.spec.scale, strict=True)
            )
        values = [found[name][(0, slice(None), *inner)] for name in names]
        grey = [value[0] if len(value) == 1 else value.float().mean(0) for value in values]
        arrays = [value.float().cpu().numpy() for value in grey]
        return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)

    def _to_device(self, image: np.ndarray, dtype: torch.dtype) -> Tensor:
        """(1, channels, *spatial); its ends are repeated until the network accepts the size, which is never kept."""
        x = torch.from_numpy(np.ascontiguousarray(image))[None]
        x = x if self.spec.slices else x[None]
        for axis in range(2, x.ndim):
            length = x.shape[axis]
            missing = ceil(max(self.spec.minimum_size, length) / self.spec.multiple) * self.spec.multiple - length
            if missing:
                end = x.narrow(axis, length - 1, 1)
                x = torch.cat((x, end.expand(*[missing if n == axis else -1 for n in range(x.ndim)])), axis)
        x = x.expand(-1, self.spec.input_channels, *[-1] * self.spec.dimensions)
        return x.to(self.device, dtype).contiguous(memory_format=CHANNELS_LAST[x.ndim])

    def _copy_for(self, dtype: torch.dtype) -> nn.Module:
        """A copy of the network for this device and type; made once."""
        if dtype not in self._copies:
            network = copy.deepcopy(self._network).eval().requires_grad_(False)
            network.to(self.device, dtype)
            for weights in network.parameters():
                if weights.ndim in CHANNELS_LAST:  # a network of blocks may have layers of slices
                    weights.data = weights.data.contiguous(memory_format=CHANNELS_LAST[weights.ndim])
            for name in getattr(network, "full_precision", ()):
                network.get_submodule(name).float().register_forward_pre_hook(_float_input)
            for module in network.modules():
                module.register_forward_pre_hook(self._stop_if_cancelled)
            if hasattr(network, "prepare_for_inference"):
                network.prepare_for_inference(self.device)
            self._copies[dtype] = network
        return self._copies[dtype]

    def _stop_if_cancelled(self, module: nn.Module, inputs: tuple) -> None:
        if self._cancelled():
            raise Cancelled

    @contextmanager
    def _drawn(self, network: nn.Module, half: int) -> Iterator[None]:
        """Stochastic layers as the present draw has them, alike in all tiles; the program's random state stays."""
        if self._draw is None:
            yield
            return
        layers = [network.get_submodule(name) for name in network.stochastic_layers]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(2 * self._draw + half)
            for layer in layers:
                layer.train()
            try:
                yield
            finally:
                for layer in layers:
                    layer.eval()

    def _measured_precision(self, candidate: str, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> str:
        """fp16, or bf16, if it gives the same picture of a part of the tile as fp32 does; otherwise fp32."""
        parts = [tile]
        if self.spec.can_be_cut and candidate == "bf16":
            parts = plan_tiles(axes, PROBE, self._context, within=tile)
        part = max(parts, key=lambda part: image[(..., *part.read)].std())
        pictures = {}
        for precision in ("fp32", candidate):
            try:
                found = self._run_tile(image, part, axes, ("sr",), precision)
            except RuntimeError as error:
                if precision == "fp32" or is_out_of_memory(error):
                    raise
                self._note(f"Precision fp32: this model has no {candidate} here.")
                return "fp32"
            pictures[precision] = np.concatenate([values.ravel() for _, values in found])
        exact, rounded = pictures["fp32"], pictures[candidate]
        error = float(np.mean((exact - rounded) ** 2)) if np.isfinite(rounded).all() else float("inf")
        psnr = -10 * np.log10(max(error, 1e-12))
        chosen, why = candidate, ""
        if psnr < EQUAL_PSNR[candidate]:
            chosen = "fp32"
        elif candidate == "bf16" and error**0.5 > SHARE_OF_NOISE * self._scan_noise:
            chosen, why = "fp32", ", but the scan has as little noise"
        self._note(f"Precision {chosen}: {candidate} agrees with fp32 to {psnr:.0f} dB{why}.")
        return chosen

    def _encode_tiles(self, axes: Sequence[Axis], whole: Tile) -> list[Tile]:
        spec = self.spec
        if not spec.can_be_cut:
            return plan_tiles(axes, None, Context(None), within=whole)
        edge = None if self.tile == 0 else self.tile or self._edge_if_needed(whole, spec.encode_bytes, spec.context)
        if edge is None and spec.dimensions == 3:  # all that may be read, which the next band will be given, too
            return [whole]
        return plan_tiles(axes, edge, self._context, within=whole)

    @property
    def _context(self) -> Context:
        """What `encode` and `decode` need around a tile, of a network that can be cut."""
        return Context(max(self.spec.context, self.spec.decode_context), self.spec.multiple, self.spec.minimum_size)

    def _decode_tiles(self, axes: Sequence[Axis], tile: Tile) -> list[Tile]:
        (needed,) = plan_tiles(axes, None, self.spec.decode_context, within=tile)
        most = min(self._budget, TILE_MEMORY[self.device.type])
        edge = self._edge_if_needed(needed, self._decode_bytes(axes), self.spec.decode_context, most)
        if self.device.type == "cpu":
            edge = min(edge or CPU_PART, CPU_PART)
        return plan_tiles(axes, edge, self.spec.decode_context, within=tile)

    def _edge_if_needed(self, tile: Tile, bytes_per_voxel: float, halo: int, most: float | None = None) -> int | None:
        """Largest core whose reading fits the memory, or None where the tile does as it is."""
        most = self._budget if most is None else most
        if self._need(tile, bytes_per_voxel) <= most:
            return None
        voxels = most / max(1.0, self._rounded(bytes_per_voxel))
        return max(SMALLEST_TILE, int(voxels ** (1 / self.spec.dimensions)) - 2 * halo)

    def _need(self, tile: Tile, bytes_per_voxel: float) -> float:
        return _size(tile) * self._rounded(bytes_per_voxel)

    def _rounded(self, float32_bytes: float) -> float:
        return float32_bytes / 2 if self.precision in ("bf16", "fp16") else float32_bytes

    def _decode_bytes(self, axes: Sequence[Axis]) -> float:
        """Memory of `decode` for one input voxel."""
        return self.spec.decode_bytes * prod(axis.scale for axis in axes)

    def _largest_pieces(self, axes: Sequence[Axis], whole: Tile) -> tuple[Tile, Tile]:
        """The tile that `encode` reads most for, and the part of it that `decode` does."""
        tile = max(self._encode_tiles(axes, whole), key=_size)
        return tile, max(self._decode_tiles(axes, tile), key=_size)

    def _take_smaller_tiles(self, error: BaseException, axes: Sequence[Axis], whole: Tile) -> None:
        """Halve what the next tiles may need, starting from what those that failed needed."""
        self._copies.clear()
        self._kept = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        failed = self._largest_pieces(axes, whole)
        may_cut = self.spec.can_be_cut and self.tile != 0
        encode_need = self._need(failed[0], self.spec.encode_bytes) if may_cut else 0.0
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


def _are_finite(parts: list[tuple[Box, np.ndarray]]) -> bool:
    return all(np.isfinite(values).all() for _, values in parts)


def _float_input(module: nn.Module, inputs: tuple) -> tuple:
    return tuple(x.float() for x in inputs)
