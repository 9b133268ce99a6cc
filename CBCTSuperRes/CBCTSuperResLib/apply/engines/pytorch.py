"""A network computed by PyTorch, on a CPU or on CUDA: what the other engines are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn

from ...core import devices
from ...core.devices import CHANNELS_LAST, DTYPES, bfloat16_pays, choose_device, rounding
from ...core.errors import Cancelled
from ...networks.spec import NetworkSpec
from ..tiles import Axis, Box, Tile, shift


class TorchNetwork:
    """A network on one device; engines/__init__.py says what such a class offers.

    Parameters
    ----------
    network : torch.nn.Module
        As networks/__init__.py says. Stays untouched; copies of it compute.
    spec : NetworkSpec
    device : str
        As in `Options`.
    cancelled : callable, optional
        Asked before every layer or block of the network; `Cancelled` is raised as soon as it answers True.
    """

    engine = "torch"
    decodes_apart = True
    version = torch.__version__
    precisions = tuple(DTYPES)

    def __init__(
        self, network: nn.Module, spec: NetworkSpec, device: str = "auto", cancelled: Callable[[], bool] | None = None
    ) -> None:
        self.spec, self.device = spec, choose_device(device)
        self._network, self._cancelled = network, cancelled or (lambda: False)
        self._copies: dict[torch.dtype, nn.Module] = {}
        self._kept: tuple[np.ndarray, Box, str, Tensor] | None = None

    @property
    def device_type(self) -> str:
        return self.device.type

    @property
    def device_text(self) -> str:
        return devices.describe_device(self.device)

    def free_memory(self) -> int:
        return devices.free_memory(self.device)

    def quicker_precision(self, scan_noise: float) -> str | None:
        if self.device.type == "cuda":
            return "fp16"
        return "bf16" if scan_noise > 0 and bfloat16_pays() else None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return devices.is_out_of_memory(error)

    def release(self) -> None:
        self._copies.clear()
        self.forget_tile()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def forget_tile(self) -> None:
        self._kept = None

    @torch.inference_mode()
    def run_tile(
        self,
        image: np.ndarray,
        tile: Tile,
        parts: Sequence[Tile],
        axes: Sequence[Axis],
        names: Sequence[str],
        precision: str,
        noise: float,
        draw: int | None = None,
        is_shared: bool = False,
    ) -> list[tuple[Box, np.ndarray]]:
        network, dtype = self._copy_for(DTYPES[precision]), DTYPES[precision]
        known = {"blur": [axis.blur for axis in axes], "noise": [noise]}
        conditions = {
            name: torch.tensor([known[name]], dtype=dtype, device=self.device) for name in self.spec.conditions
        }
        with rounding(precision):
            features = self._features_of(network, image, tile, conditions, precision, draw, is_shared)
            found = []
            for part in parts:
                piece = features[(..., *shift(part.read, tile.read))]
                with self._drawn(network, draw, 1):
                    found.append((part.write, self._decode(network, piece, part, axes, names)))
        return found

    def _features_of(
        self,
        network: nn.Module,
        image: np.ndarray,
        tile: Tile,
        conditions: dict[str, Tensor],
        precision: str,
        draw: int | None,
        is_shared: bool,
    ) -> Tensor:
        """What `encode` gives for a tile; kept, where the next may be the same."""
        if is_shared and self._kept and self._kept[0] is image and self._kept[1:3] == (tile.read, precision):
            return self._kept[3]
        self.forget_tile()  # its memory is given back first
        x = self._to_device(image[(..., *tile.read)], DTYPES[precision])
        with self._drawn(network, draw, 0):
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
    def _drawn(self, network: nn.Module, draw: int | None, half: int) -> Iterator[None]:
        """Stochastic layers as a draw has them, alike in all tiles; the program's random state stays."""
        if draw is None:
            yield
            return
        layers = [network.get_submodule(name) for name in network.stochastic_layers]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(2 * draw + half)
            for layer in layers:
                layer.train()
            try:
                yield
            finally:
                for layer in layers:
                    layer.eval()


def _float_input(module: nn.Module, inputs: tuple) -> tuple:
    return tuple(x.float() for x in inputs)
