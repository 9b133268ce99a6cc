"""Running a network on an image or block of any size: device, precision, tiles, and what to do when things fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import Cancelled, ModelError, ResourceError
from ..core.memory import readable
from ..networks.spec import NetworkSpec
from .engines.graphs import EQUAL, GraphNetwork
from .tile_sizes import BLOCK_MEMORY
from .tiles import AS_IT_IS, Axis, Box, Context, Symmetry, Tile, on_whole_cells, plan_tiles, shift, symmetries

if TYPE_CHECKING:
    from torch import nn

    from .engines.pytorch import TorchNetwork

log = logging.getLogger(__name__)

TILE_MEMORY = {"cpu": 1.1e9, "cuda": 6e9}
SMALLEST_TILE = 16
CPU_PART = 256  # larger parts of the enlarged image live in memory that the system must clear anew each time
EQUAL_PSNR = {"fp16": 60.0, "bf16": 50.0}  # dB of the window
SHARE_OF_NOISE = 0.33  # of the scan's noise, that the rounding of bfloat16 may be
PROBE = 64  # edge of the part of a tile on which precisions are compared
FLAT = 0.02  # standard deviation below which a tile says nothing about precision


class Engine:
    """One network, ready to run on one device, by PyTorch or another of the `engines`.

    >>> engine = Engine(model.network, model.card.spec, device="auto")
    >>> axes = [Axis(length=400, start=0, stop=400, outputs=800)] * 2
    >>> (whole,) = plan_tiles(axes, edge=None, context=0)
    >>> enlarged = engine.run(image, axes, whole)

    Parameters
    ----------
    network : torch.nn.Module, or a network on an engine
        As networks/__init__.py or engines/__init__.py says. Stays untouched.
    spec : NetworkSpec
        With the calibrated context, if there is one.
    device, precision, tile, ensemble : see `Options`
    cancelled : callable, optional
        Asked before every layer or block of the network; `Cancelled` is raised as soon as it answers True.
    noise : float
        Standard deviation of the images' noise, in units of the window, for networks that want to be told.
    exact, insists : TorchNetwork and bool, optional
        With what another engine is compared on a part of the first tile: if it differs, that one goes on, or it is an
        error for those who insist.
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
        network: nn.Module | TorchNetwork | GraphNetwork,
        spec: NetworkSpec,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        cancelled: Callable[[], bool] | None = None,
        ensemble: int = 1,
        noise: float = 0.0,
        scan_noise: float = 0.0,
        exact: TorchNetwork | None = None,
        insists: bool = False,
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
        self._cancelled = cancelled or (lambda: False)
        if not hasattr(network, "run_tile"):
            from .engines.pytorch import TorchNetwork

            network = TorchNetwork(network, spec, device, self._cancelled)
        self._network = network
        self._exact, self._insists = exact, insists  # the former until it was compared with
        self.precision = "fp32" if precision == "auto" else precision
        self.tile = tile
        self.noise = noise
        self.notes: list[str] = []
        self.after_run: Callable[[int], None] = lambda runs: None
        self._runs = 0
        self._scan_noise = scan_noise
        # A precision that is yet to be compared with fp32.
        self._candidate = network.quicker_precision(scan_noise) if precision == "auto" else None
        self._symmetries = symmetries(ensemble, spec.dimensions)
        self._draw: int | None = None
        usual = TILE_MEMORY[network.device_type]
        most = max(usual, BLOCK_MEMORY) if spec.dimensions == 3 else usual
        self._budget = min(most, network.free_memory() * 0.6)

    @property
    def engine_text(self) -> str:
        """Name and version of what computes, for the report."""
        return f"{self._network.engine} {self._network.version}"

    @property
    def device_text(self) -> str:
        """Where it computes, for the report."""
        return self._network.device_text

    @property
    def ensemble(self) -> int:
        """How many times the network sees each image."""
        return len(self._symmetries)

    @property
    def has_settled(self) -> bool:
        """Whether what computes, and its precision, are chosen for good; see `settle`."""
        return self._exact is None and self._candidate is None

    @property
    def name(self) -> str:
        """Of what computes, as `Options.engine` has it."""
        return self._network.engine

    def begin(self, after_run: Callable[[int], None]) -> None:
        """Count the runs from here, and tell them; an engine may serve one volume after the other."""
        self.after_run, self._runs = after_run, 0

    def end(self) -> None:
        """Give back what is kept from one tile to the next."""
        self._network.forget_tile()

    def settle(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile) -> None:
        """Choose engine and precision by this image, if they are still open and it tells; arguments as of `run`.

        Without it the first image that tells decides, in the midst of the work; what was computed before is in fp32.
        """
        for tile in [] if self.has_settled else self._encode_tiles(axes, whole):
            if self._choose(image, tile, axes):
                return

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
            If the network gives values that are not finite, even in float32, or an engine computes something else.
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
                if not self._network.is_out_of_memory(error):
                    raise
                self._take_smaller_tiles(error, axes, whole)
            else:
                self._runs += 1
                self.after_run(self._runs)
                return result

    def _run_tiles(self, image: np.ndarray, axes: Sequence[Axis], whole: Tile, names: Sequence[str]) -> np.ndarray:
        result = np.empty((len(names), *(part.stop - part.start for part in whole.write)), np.float32)
        tiles = self._encode_tiles(axes, whole)
        for tile in tiles:
            if self._cancelled():
                raise Cancelled
            self._choose(image, tile, axes)
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
        """What the network gives for the parts of one tile, and where it belongs.

        The bands of a block follow each other and share what was computed on its grid, see `Plan.band`.
        """
        is_shared = self.spec.dimensions == 3 and self._symmetries == (AS_IT_IS,) and self._draw is None
        parts = self._decode_tiles(axes, tile)
        return self._network.run_tile(image, tile, parts, axes, names, precision, self.noise, self._draw, is_shared)

    def _compare_with_exact(self, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> None:
        """Go on with PyTorch if the other engine does not give the same picture of a part of the tile."""
        part = self._telling_part(image, tile, axes)
        pictures = []
        for network in (other := self._network, self._exact):
            self._network = network
            pictures.append(np.concatenate([v.ravel() for _, v in self._run_tile(image, part, axes, ("sr",), "fp32")]))
        self._network, self._exact = other, None
        difference = float(np.abs(pictures[0] - pictures[1]).max())
        if difference <= EQUAL:
            self._note(f"{self.engine_text} differs from PyTorch by {difference:.1g} of the window at most.")
            return
        problem = f"{self.engine_text} differs from PyTorch by {difference:.2g} of the window, more than {EQUAL:g}"
        if self._insists:
            raise ModelError(f"{problem}.", "Choose engine torch.")
        self._network = network
        self._candidate = self._candidate and network.quicker_precision(self._scan_noise)
        self._note(f"{problem}: PyTorch computes.")

    def _telling_part(self, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> Tile:
        """The part of a tile that says most of what is computed differently; all of it, if it cannot be cut."""
        parts = plan_tiles(axes, PROBE, self._context, within=tile) if self.spec.can_be_cut else [tile]
        return max(parts, key=lambda part: image[(..., *part.read)].std())

    def _choose(self, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> bool:
        """Choose engine and precision by a tile, if it tells; whether they are chosen."""
        if not self.has_settled and image[(..., *tile.read)].std() > FLAT:
            if self._exact:
                self._compare_with_exact(image, tile, axes)
            if self._candidate:
                self.precision = self._measured_precision(self._candidate, image, tile, axes)
                self._candidate = None
        return self.has_settled

    def _measured_precision(self, candidate: str, image: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> str:
        """fp16, or bf16, if it gives the same picture of a part of the tile as fp32 does; otherwise fp32."""
        part = self._telling_part(image, tile, axes) if candidate == "bf16" else tile
        pictures = {}
        for precision in ("fp32", candidate):
            try:
                found = self._run_tile(image, part, axes, ("sr",), precision)
            except RuntimeError as error:
                if precision == "fp32" or self._network.is_out_of_memory(error):
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
        most = self._edge_if_needed(whole, self._encode_bytes(axes), spec.context)
        edge = None if self.tile == 0 else self.tile or most
        if edge is None and spec.dimensions == 3:  # all that may be read, which the next band will be given, too
            return [whole]
        return plan_tiles(axes, edge, self._context, within=whole)

    @property
    def _context(self) -> Context:
        """What `encode` and `decode` need around a tile, of a network that can be cut."""
        return Context(max(self.spec.context, self.spec.decode_context), self.spec.multiple, self.spec.minimum_size)

    def _decode_tiles(self, axes: Sequence[Axis], tile: Tile) -> list[Tile]:
        if not self._network.decodes_apart:
            return [tile]
        (needed,) = plan_tiles(axes, None, self.spec.decode_context, within=tile)
        most = min(self._budget, TILE_MEMORY[self._network.device_type])
        edge = self._edge_if_needed(needed, self._decode_bytes(axes), self.spec.decode_context, most)
        if self._network.device_type == "cpu":
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

    def _encode_bytes(self, axes: Sequence[Axis]) -> float:
        """Memory of a tile for one input voxel; with that of `decode`, where it is not computed apart."""
        return self.spec.encode_bytes + (0.0 if self._network.decodes_apart else self._decode_bytes(axes))

    def _decode_bytes(self, axes: Sequence[Axis]) -> float:
        """Memory of `decode` for one input voxel."""
        return self.spec.decode_bytes * prod(axis.scale for axis in axes)

    def _largest_pieces(self, axes: Sequence[Axis], whole: Tile) -> tuple[Tile, Tile]:
        """The tile that `encode` reads most for, and the part of it that `decode` does."""
        tile = max(self._encode_tiles(axes, whole), key=_size)
        return tile, max(self._decode_tiles(axes, tile), key=_size)

    def _take_smaller_tiles(self, error: BaseException, axes: Sequence[Axis], whole: Tile) -> None:
        """Halve what the next tiles may need, starting from what those that failed needed."""
        self._network.release()
        failed = self._largest_pieces(axes, whole)
        may_cut = self.spec.can_be_cut and self.tile != 0
        encode_need = self._need(failed[0], self._encode_bytes(axes)) if may_cut else 0.0
        decode_need = self._need(failed[1], self._decode_bytes(axes))
        self._budget = min(self._budget, max(encode_need, decode_need)) / 2
        self.tile = self.tile and max(SMALLEST_TILE, self.tile // 2)
        if self._largest_pieces(axes, whole) == failed:
            raise ResourceError(
                f"The memory of {self._network.device} is not enough for this model.",
                "Close other programs, choose an ROI, a lighter model, or --device cpu.",
            ) from error
        self._note(f"Memory ran out on {self._network.device}; tiles now take at most {readable(self._budget)}.")

    def _note(self, text: str) -> None:
        log.info(text)
        self.notes.append(text)


def _size(tile: Tile) -> int:
    return prod(part.stop - part.start for part in tile.read)


def _are_finite(parts: list[tuple[Box, np.ndarray]]) -> bool:
    return all(np.isfinite(values).all() for _, values in parts)
