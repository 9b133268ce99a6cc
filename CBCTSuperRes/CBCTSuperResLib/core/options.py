"""What a user may choose for one super-resolution, the same for panel, console, command line and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite

import numpy as np

from .errors import OptionError
from .gpus import count_gpus

PLANES = ("axial", "isotropic")
BACK_PROJECTION = ("auto", "on", "off")
ENSEMBLES = (1, 2, 4, 8)
USUAL_PASSES, MOST_PASSES = 4, 32
WARNING, WIDEST = 0.19, "auto"  # of the window; where the widest bars of a scan are
BONE = "bone"  # where a voxel is likeliest to lie on the other side of bone's threshold; "bone=GREY" gives that
ENGINES = ("auto", "torch", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
"""What every format of volumes holds."""
CUBIC = "cubic"
ALL_GPUS = "cuda:all"
WHOLE = 0.005  # share by which the ratio of two voxel sizes may miss a whole factor: files round them

Ranges = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Options:
    """Choices for `super_resolve`; every default is what most users want.

    Attributes
    ----------
    window : None, "auto", "model", a preset's name, or (lo, hi) in grey values
        Normalisation range. None takes the model's window if the scan fits it, otherwise the automatic one.
    blank : "auto", "none" or a grey value
        What is treated as blank region.
    smooth : float or None
        Standard deviation, in pixels, of a mild in-plane Gaussian before the network; None takes the model's.
    planes : "axial" or "isotropic"
        A 2-D network enlarges each slice in its plane, or the volume along all three axes.
    scale : float, three of them, or None
        Factor for a network of any real scale, or those along (i, j, k); None takes the network's own. 1 denoises
        without enlarging.
    output_spacing : float, three of them, "cubic", or None
        Voxel size of the result in mm, for all axes or along (i, j, k), in place of `scale`; "cubic" is that of the
        scan's finest axis. As the result has whole voxels over the same extent, its own may differ in the last digits.
    roi : ((i0, i1), (j0, j1), (k0, k1)) or None
        Half-open box in voxels of the input; only it is computed.
    dtype : str or None
        Type of the output, one of `TYPES`; None keeps the input's.
    device : str
        "auto", "cpu", "cuda" or "cuda:N"; or several that share one volume, as "cuda:0,1,3", "cuda:all" (all that are
        there) or "cpu,cpu" (two processes, each with half of the cores). See `devices`.
    precision : str
        One of `PRECISIONS`; "auto" compares on a part of the scan: on CUDA it is fp16, on processors that have it bf16,
        where that was measured to be equal (and on processors faster, and far below the scan's noise); else fp32.
    engine : str
        What computes the network, one of `ENGINES`; "auto" is PyTorch, unless another one was measured to be faster on
        this machine (`cbct-superres engines`) or PyTorch is not installed. Others compute on the CPU.
    tile : int or None
        Edge of a tile in input voxels; None chooses it from the memory at hand, 0 forbids tiles.
    ensemble : int
        Results over so many flips and rotations of each slice (flips of each block) that are averaged, one of
        `ENSEMBLES`; the network runs so many times.
    uncertainty : int
        0 for none, otherwise 2 to `MOST_PASSES`. A model with error bars gives them as further volumes, and draws its
        dropout so many times; see `error_bars`. Of any other, and in three planes, so many further passes, flipped or
        rotated and with a little noise, give their standard deviation as a volume "model disagreement"; see `maps`.
    disagreement_above : float or None
        Disagreement, in grey values, from which on voxels are marked in a mask; None for no mask.
    warning_above : float, "auto", "bone" or "bone=GREY"
        Predictive deviation, as a share of the window, from which on voxels are marked in the warning mask of a model
        with error bars; "auto" marks the twentieth of the voxels whose bars are widest; "bone" that which is likeliest
        to lie on the other side of bone's threshold, Otsu's or a grey value. See `error_bars`.
    scanner_blur : float, three of them, or None
        Blur of the scanner, full width at half maximum in mm, for all axes or along (i, j, k); None estimates it from
        the scan. Models that want to know are told, and the result is judged by it.
    sharpness : float
        How far the result goes from cubic interpolation, 0, towards the model's answer, 100 (per cent).
    back_projection : "auto", "on" or "off"
        Whether the result is corrected where, blurred and sampled as the scan was, it contradicts the scan by more than
        its noise. "auto" does so where the scanner's blur is given or sure.
    """

    window: str | tuple[float, float] | None = None
    blank: str | float = "auto"
    smooth: float | None = None
    planes: str = "axial"
    scale: float | tuple[float, float, float] | None = None
    output_spacing: float | tuple[float, float, float] | str | None = None
    roi: Ranges | None = None
    dtype: str | None = None
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    tile: int | None = None
    ensemble: int = 1
    uncertainty: int = 0
    disagreement_above: float | None = None
    warning_above: float | str = WARNING
    scanner_blur: float | tuple[float, float, float] | None = None
    sharpness: float = 100.0
    back_projection: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.window, list):
            object.__setattr__(self, "window", tuple(self.window))
        if isinstance(self.roi, list):
            object.__setattr__(self, "roi", tuple(tuple(pair) for pair in self.roi))
        self._check_size()
        self._check_devices()
        if self.planes not in PLANES:
            raise OptionError(f"planes is {self.planes!r}.", f"Choose one of {', '.join(PLANES)}.")
        if self.precision not in PRECISIONS:
            why = " int8 is for models that were trained for it, and none was." if self.precision == "int8" else ""
            raise OptionError(f"precision is {self.precision!r}.{why}", f"Choose one of {', '.join(PRECISIONS)}.")
        if self.engine not in ENGINES:
            raise OptionError(f"engine is {self.engine!r}.", f"Choose one of {', '.join(ENGINES)}.")
        if self.engine in ENGINES[2:] and self.device.startswith("cuda"):
            raise OptionError(
                f"{self.engine} computes on the CPU, but the device is {self.device}.", "Choose engine torch, or auto."
            )
        if self.smooth is not None and not 0 <= self.smooth <= 5:
            raise OptionError(f"smooth is {self.smooth} pixels.", "Choose a value from 0 to 5.")
        if self.tile is not None and self.tile < 0:
            raise OptionError(f"tile is {self.tile}.", "Choose a positive edge length, or 0 for whole slices.")
        if self.ensemble not in ENSEMBLES:
            raise OptionError(
                f"ensemble is {self.ensemble!r}.",
                f"Choose one of {', '.join(map(str, ENSEMBLES))} flips and rotations.",
            )
        self._check_uncertainty()
        self._check_scanner()
        if self.dtype is not None:
            self._check_dtype()

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that `device` names, one or several; "cuda:0,1" are "cuda:0" and "cuda:1"."""
        if self.device == ALL_GPUS:
            return tuple(f"cuda:{number}" for number in range(count_gpus())) or ("cuda",)
        names: list[str] = []
        for word in map(str.strip, self.device.split(",")):
            kind = names[-1].partition(":")[0] if names else ""
            names.append(f"{kind}:{word}" if word.isdigit() and kind else word)
        return tuple(names)

    def factors(self, spacing: Sequence[float] | None = None) -> float | tuple[float, float, float] | None:
        """The factors that are asked for, by `scale` or by `output_spacing`; None if none are.

        Parameters
        ----------
        spacing : (i, j, k), optional
            Of the scan, in mm; it must be known where an output spacing is asked for. Ratios that hardly differ from a
            whole factor are that.
        """
        if self.output_spacing is None:
            return self.scale
        wanted = min(spacing) if self.output_spacing == CUBIC else self.output_spacing
        exact = [before / after for before, after in zip(spacing, np.broadcast_to(wanted, 3), strict=True)]
        return tuple(float(f"{f:.12g}") if abs(f - round(f)) > WHOLE * f else float(round(f)) for f in exact)

    def _check_devices(self) -> None:
        if "," in self.device and ALL_GPUS in self.devices:
            raise OptionError(
                f"device is {self.device!r}: {ALL_GPUS} is every GPU that is there, and stands alone.",
                f"Choose {ALL_GPUS}, or name the GPUs, as in cuda:0,1.",
            )
        kinds = {name.partition(":")[0] for name in self.devices}
        if "," in self.device and (len(kinds) > 1 or not kinds <= {"cpu", "cuda"}):
            raise OptionError(
                f"device is {self.device!r}: several devices must be of one kind.",
                "Choose GPUs, as in cuda:0,1, or processes of this computer, as in cpu,cpu.",
            )

    def _check_size(self) -> None:
        for name, what in (("scale", "factor"), ("output_spacing", "voxel size in mm")):
            value = getattr(self, name)
            if value is None or (name == "output_spacing" and value == CUBIC):
                continue
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, tuple(value))
            sizes = value if isinstance(value, list | tuple) else [value]
            if len(sizes) not in (1, 3) or not all(isinstance(size, int | float) and isfinite(size) for size in sizes):
                raise OptionError(f"{name} is {value!r}.", f"Give one {what}, or three, along i, j and k.")
            if name == "output_spacing" and min(sizes) <= 0:
                raise OptionError(f"{name} is {value!r}.", "A voxel size in mm is more than 0.")
        if self.scale is not None and self.output_spacing is not None:
            raise OptionError("Both a factor and a voxel size of the result are given.", "Leave one of them out.")

    def _check_uncertainty(self) -> None:
        if self.uncertainty != 0 and not 2 <= self.uncertainty <= MOST_PASSES:
            raise OptionError(
                f"uncertainty is {self.uncertainty} passes.", f"Choose 2 to {MOST_PASSES} passes, or 0 for none."
            )
        above = self.warning_above
        is_known = above == WIDEST or marks_bone(above) if isinstance(above, str) else 0 < above <= 1
        if not is_known:
            raise OptionError(
                f"warning_above is {above}.",
                f"Choose a share of the window above 0 and up to 1, such as {WARNING}, or {WIDEST}, or {BONE}, or "
                f"{BONE}=GREY with the grey value above which voxels are bone.",
            )
        if self.warning_above != WARNING and not self.uncertainty:
            raise OptionError("There is a threshold for the warning mask, but no passes.", "Set uncertainty, to 4 say.")
        if self.disagreement_above is None:
            return
        if not self.disagreement_above > 0:
            raise OptionError(
                f"disagreement_above is {self.disagreement_above} grey values.",
                "Choose a positive number of grey values.",
            )
        if not self.uncertainty:
            raise OptionError("There is a threshold for the disagreement, but no passes.", "Set uncertainty, to 4 say.")

    def _check_scanner(self) -> None:
        blur = self.scanner_blur
        if isinstance(blur, list | tuple):
            object.__setattr__(self, "scanner_blur", tuple(blur))
        widths = self.scanner_blur if isinstance(blur, list | tuple) else [] if blur is None else [blur] * 3
        if blur is not None and (len(widths) != 3 or not all(0 <= width < float("inf") for width in widths)):
            raise OptionError(
                f"scanner_blur is {blur!r}.",
                "Give its full width at half maximum in mm, 0 or more: one number, or three along i, j and k.",
            )
        if self.back_projection not in BACK_PROJECTION:
            raise OptionError(
                f"back_projection is {self.back_projection!r}.", f"Choose one of {', '.join(BACK_PROJECTION)}."
            )
        if not 0 <= self.sharpness <= 100:
            raise OptionError(f"sharpness is {self.sharpness!r} %.", "Choose a value from 0 to 100.")

    def _check_dtype(self) -> None:
        try:
            name = np.dtype(self.dtype).newbyteorder("=").name
        except (TypeError, ValueError, SyntaxError):
            name = ""
        if name not in TYPES:
            raise OptionError(f"dtype is {self.dtype!r}.", f"Choose one of {', '.join(TYPES)}.")
        if not isinstance(self.dtype, str):
            object.__setattr__(self, "dtype", name)

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(values: dict) -> Options:
        unknown = set(values) - {f.name for f in fields(Options)}
        if unknown:
            raise OptionError(f"Unknown options: {', '.join(sorted(unknown))}.")
        return Options(**values)


def marks_bone(warning_above: float | str) -> bool:
    """Whether voxels are marked that may lie on the other side of bone's threshold."""
    if not isinstance(warning_above, str) or warning_above.partition("=")[0] != BONE:
        return False
    try:
        return warning_above == BONE or isfinite(given_bone_threshold(warning_above))
    except ValueError:
        return False


def given_bone_threshold(warning_above: str) -> float | None:
    """The grey value of "bone=GREY"; None of "bone"."""
    grey = warning_above.partition("=")[2]
    return None if warning_above == BONE else float(grey)
