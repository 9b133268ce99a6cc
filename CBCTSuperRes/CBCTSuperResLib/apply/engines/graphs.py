"""Networks as graphs (ONNX) on a CPU, computed by ONNX Runtime or by OpenVINO; PyTorch need not be installed.

A graph takes a whole tile at once, `encode` and `decode` together, and draws nothing.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from math import ceil
from pathlib import Path

import numpy as np

from ...core.errors import Cancelled, ModelError
from ...core.memory import available_memory
from ...models.card import ModelCard
from ...models.graph import IMAGE
from ...models.self_check import compare_outputs, probe, probe_conditions, statistics
from ...networks.spec import NetworkSpec
from ..tiles import Axis, Box, Tile, shift
from . import TITLES, cpu_threads

EQUAL = 1e-5  # of the window: more may float32 of two engines not differ
SHARE = 2e-5  # the same as a share of an output's mean and deviation, which together are about half of the window
ASK_INTERVAL_S = 0.1  # how often it is asked whether to cancel
OUT_OF_MEMORY_SIGNS = ("alloc", "out of memory", "not enough memory")


class GraphNetwork(ABC):
    """A network's graph on an engine; engines/__init__.py says what such a class offers.

    Parameters
    ----------
    path : Path
        Of the graph, see `models.graph`.
    spec : NetworkSpec
    cancelled : callable, optional
        Asked while it computes; `Cancelled` is raised soon after it answers True.

    Raises
    ------
    ModelError
        If the engine cannot read the graph.
    """

    engine = ""
    device = device_type = "cpu"
    decodes_apart = False
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, path: Path, spec: NetworkSpec, cancelled: Callable[[], bool] | None = None) -> None:
        self.spec, self._cancelled = spec, cancelled or (lambda: False)
        self._threads = cpu_threads()
        try:
            self.version = self._load(path)
        except Exception as error:  # of the engine's own kinds
            raise ModelError(
                f"{TITLES[self.engine]} cannot read the graph {path}: {_first_line(error)}.",
                "Make it anew: cbct-superres models export MODEL GRAPH.onnx; or choose another engine.",
            ) from error

    @property
    def device_text(self) -> str:
        return f"cpu ({self._threads} of {os.cpu_count()} cores)"

    def free_memory(self) -> int:
        return available_memory()

    def quicker_precision(self, scan_noise: float) -> str | None:
        return None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def release(self) -> None:  # noqa: B027
        """Nothing can be given back."""

    def forget_tile(self) -> None:  # noqa: B027
        """Nothing is kept from one tile to the next."""

    def problems(self, card: ModelCard) -> list[str]:
        """Differences from what the model's card recorded of the network's outputs for `probe`, a sentence each."""
        feeds = {IMAGE: probe(self.spec), **probe_conditions(self.spec)}
        recorded = {name: card.self_check[name] for name in self.outputs if name in card.self_check}
        if not recorded:
            return []
        found = statistics(dict(zip(recorded, self._outputs(feeds, list(recorded), "fp32"), strict=True)))
        return compare_outputs(found, recorded, SHARE)

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
        known = {"blur": [axis.blur for axis in axes], "noise": [noise]}
        feeds = {name: np.asarray([known[name]], np.float32) for name in self.spec.conditions}
        outputs = self._outputs({IMAGE: self._input(image[(..., *tile.read)]), **feeds}, names, precision)
        inner = tuple(
            slice(core.start * int(factor), core.stop * int(factor))
            for core, factor in zip(shift(tile.core, tile.read), self.spec.scale, strict=True)
        )
        grey = [values[(0, slice(None), *inner)] for values in outputs]
        arrays = [values[0] if len(values) == 1 else values.mean(0) for values in grey]
        return [(tile.write, arrays[0][None] if len(arrays) == 1 else np.stack(arrays))]

    def _input(self, image: np.ndarray) -> np.ndarray:
        """(1, channels, *spatial); its ends are repeated until the network accepts the size, which is never kept."""
        x = image if self.spec.slices else image[None]
        multiple, smallest = self.spec.multiple, self.spec.minimum_size
        missing = [ceil(max(smallest, length) / multiple) * multiple - length for length in x.shape[1:]]
        x = np.pad(x, [(0, 0), *((0, more) for more in missing)], mode="edge") if any(missing) else x
        x = np.broadcast_to(x, (self.spec.input_channels, *x.shape[1:]))
        return np.ascontiguousarray(x[None], np.float32)

    def _outputs(self, feeds: dict[str, np.ndarray], names: Sequence[str], precision: str) -> list[np.ndarray]:
        try:
            return self._compute(feeds, names, precision)
        except (Cancelled, MemoryError):
            raise
        except Exception as error:  # of the engine's own kinds
            if any(sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS):
                raise MemoryError(_first_line(error)) from error
            raise ModelError(
                f"{TITLES[self.engine]} failed: {_first_line(error)}.", "Choose another engine."
            ) from error

    @property
    @abstractmethod
    def outputs(self) -> list[str]:
        """Names of what the graph gives."""

    @abstractmethod
    def _load(self, path: Path) -> str:
        """Get ready; returns the engine's version."""

    @abstractmethod
    def _compute(self, feeds: dict[str, np.ndarray], names: Sequence[str], precision: str) -> list[np.ndarray]:
        """Outputs of the graph by their names, float32."""


class OnnxRuntimeNetwork(GraphNetwork):
    """By ONNX Runtime, in float32."""

    engine = "onnxruntime"

    def _load(self, path: Path) -> str:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with OpenCV's work
        self._run_options = onnxruntime.RunOptions
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnxruntime.__version__

    @property
    def outputs(self) -> list[str]:
        return [output.name for output in self._session.get_outputs()]

    def _compute(self, feeds: dict[str, np.ndarray], names: Sequence[str], precision: str) -> list[np.ndarray]:
        options = self._run_options()
        with ThreadPoolExecutor(max_workers=1) as pool:
            running = pool.submit(self._session.run, list(names), feeds, options)
            while not wait([running], ASK_INTERVAL_S).done:
                if self._cancelled():
                    options.terminate = True
                    wait([running])
                    raise Cancelled
        return running.result()


@lru_cache(maxsize=1)
def _openvino_core():
    """The one core of this process.

    Each core's plugin gives the thread that made it a stack for signals, and puts the former one back when it goes: of
    two that go in the order in which they came, the second puts back one that is freed, and the next signal, Ctrl-C for
    instance, ends the process with a segmentation fault.
    """
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a file that is mapped cannot be replaced on Windows
    return core


class OpenVinoNetwork(GraphNetwork):
    """By OpenVINO, in float32 or bfloat16."""

    engine = "openvino"
    precisions = ("fp32", "bf16")

    def _load(self, path: Path) -> str:
        import openvino

        self._core = _openvino_core()
        self._graph = self._core.read_model(str(path))
        self._requests = {}
        self._request_for("fp32")
        return openvino.__version__.partition("-")[0]

    @property
    def outputs(self) -> list[str]:
        return [output.get_any_name() for output in self._graph.outputs]

    def quicker_precision(self, scan_noise: float) -> str | None:
        has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return "bf16" if scan_noise > 0 and has_bfloat16 else None

    def release(self) -> None:
        self._requests.clear()

    def _request_for(self, precision: str):
        if precision not in self._requests:
            kind = {"fp32": "f32", "bf16": "bf16"}[precision]
            options = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": self._threads, "NUM_STREAMS": 1}
            compiled = self._core.compile_model(self._graph, "CPU", options)
            self._requests[precision] = compiled.create_infer_request()
        return self._requests[precision]

    def _compute(self, feeds: dict[str, np.ndarray], names: Sequence[str], precision: str) -> list[np.ndarray]:
        request = self._request_for(precision)
        request.start_async(feeds)
        while not request.wait_for(round(1000 * ASK_INTERVAL_S)):
            if self._cancelled():
                request.cancel()
                raise Cancelled
        return [np.array(request.get_tensor(name).data, np.float32) for name in names]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__} {str(error).strip().partition(chr(10))[0]}".strip().rstrip(".")
