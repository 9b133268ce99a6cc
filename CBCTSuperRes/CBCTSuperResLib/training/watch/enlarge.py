"""Whole images through a network that is being trained, with the engine that Apply uses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ...devices import free_memory
from ...networks.spec import NetworkSpec
from ...pipeline.engine import Engine
from ...pipeline.tiles import Axis, plan_tiles

WIDE_HALO = 64  # the widest that calibration tries: for images that do not fit into memory whole
MEMORY_SHARE = 0.5


class Enlarger:
    """Enlarges images with a copy of a network, in float32; the network itself stays as it is.

    >>> enlarge = Enlarger(network, device="cpu")
    >>> enlarge(image).shape  # image: float32 (rows, columns) in [0, 1]
    (2 * rows, 2 * columns)

    Parameters
    ----------
    network : torch.nn.Module
        In training or not, on any device.
    device : str
    halo : int, optional
        Its calibrated halo. Without one, an image is computed whole; only if it would not fit into memory, tiles with
        `WIDE_HALO` are used.
    cancelled : callable, optional
        See `Engine`.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str = "cpu",
        halo: int | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.spec: NetworkSpec = replace(network.describe(), halo=halo)
        self._network, self._device, self._cancelled = network, device, cancelled
        self._engines: dict[tuple[str, int | None], Engine] = {}

    def __call__(self, image: np.ndarray, output: str = "sr") -> np.ndarray:
        """Enlarge an image in [0, 1]; `output` names one of the network's outputs of `decode`.

        Parameters
        ----------
        image : ndarray of float32, shape (rows, columns) or (channels, rows, columns)
            For a network that sees neighbouring slices: (2 spec.slices + 1, rows, columns).

        Returns
        -------
        ndarray of float32, shape (rows, columns), or (channels, rows, columns) for colours; not clipped
        """
        if image.ndim == 3 and not self.spec.slices:
            return self._whole(image, output)
        factor = int(self.spec.scale)
        axes = [Axis(length, 0, length, factor * length) for length in image.shape[-2:]]
        (whole,) = plan_tiles(axes, None, 0)
        return self._engine(output, self._halo_for(image)).run(np.ascontiguousarray(image, np.float32), axes, whole)

    @torch.inference_mode()
    def _whole(self, image: np.ndarray, output: str) -> np.ndarray:
        """An image of several colours; the engine works on one."""
        network = copy.deepcopy(self._network).eval().to(self._device)
        batch = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None].to(self._device)
        return network(batch)[output][0].float().cpu().numpy()

    def _halo_for(self, image: np.ndarray) -> int | None:
        if self.spec.halo is not None:
            return self.spec.halo
        need = image.size * self.spec.bytes_per_voxel
        fits = need <= MEMORY_SHARE * free_memory(torch.device(self._device))
        return None if fits else WIDE_HALO

    def _engine(self, output: str, halo: int | None) -> Engine:
        if (output, halo) not in self._engines:
            network = self._network if output == "sr" else _Output(self._network, output)
            spec = replace(self.spec, halo=halo)
            self._engines[output, halo] = Engine(network, spec, self._device, "fp32", cancelled=self._cancelled)
        return self._engines[output, halo]


class _Output(nn.Module):
    """A network whose "sr" is another of its outputs."""

    def __init__(self, network: nn.Module, output: str) -> None:
        super().__init__()
        self.network, self.output = network, output

    def encode(self, x: Tensor) -> Tensor:
        return self.network.encode(x)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": self.network.decode(features, positions)[self.output]}


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is built inside, on the CPU, draws from torch's generator without moving it on."""
    with torch.random.fork_rng(devices=[]):
        yield
