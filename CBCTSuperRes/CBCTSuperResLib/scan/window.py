"""Normalisation windows: from grey values to [0, 1] and back, and the windows known by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import OptionError

_FLOAT32_SAFE = 2.0**20  # up to here float32 arithmetic is at most 1/8 grey value wrong, so that rounding is exact


@dataclass(frozen=True)
class Window:
    """Range of grey values that is mapped to [0, 1].

    Attributes
    ----------
    lo, hi : float
        Grey values of 0 and 1.
    source : str
        Where the window comes from, for reports: "given", "model", "automatic" or "preset NAME".

    Raises
    ------
    OptionError
        If a bound is not finite or lo >= hi.
    """

    lo: float
    hi: float
    source: str = "given"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lo", float(self.lo))
        object.__setattr__(self, "hi", float(self.hi))
        if not (np.isfinite(self.lo) and np.isfinite(self.hi)):
            raise OptionError(f"The window [{self.lo:g}, {self.hi:g}] is not finite.", "Give two numbers.")
        if not 0 < self.width < np.inf:
            raise OptionError(
                f"The window's lower bound {self.lo:g} is not below its upper bound {self.hi:g}.",
                "Give the lower grey value first.",
            )

    def __str__(self) -> str:
        return f"[{self.lo:.10g}, {self.hi:.10g}]"

    @property
    def width(self) -> float:
        """hi - lo in grey values."""
        return self.hi - self.lo

    @property
    def _float32_suffices(self) -> bool:
        return max(abs(self.lo), abs(self.hi), self.width) <= _FLOAT32_SAFE

    def to_unit(self, values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Map grey values to [0, 1]; what lies outside the window is clipped.

        Integers inside windows up to 2**23 wide come back exactly from ``rint(from_unit(unit))``: the one rounding to
        float32 is at most 2**-25, a quarter of a grey value.

        Parameters
        ----------
        values : ndarray
            Grey values of any integer or real type.
        out : ndarray of float32, optional
            Where to put the result, of the shape of `values`.

        Returns
        -------
        ndarray of float32
        """
        values = np.asarray(values)
        out = np.empty(values.shape, np.float32) if out is None else out
        if self._float32_suffices and np.can_cast(values.dtype, np.float32):
            np.subtract(values, np.float32(self.lo), out=out, dtype=np.float32)
            np.divide(out, np.float32(self.width), out=out)
        else:
            np.divide(values.astype(np.float64) - self.lo, self.width, out=out, casting="same_kind")
        return np.clip(out, 0, 1, out=out)

    def from_unit(self, unit: np.ndarray) -> np.ndarray:
        """Map [0, 1] back to grey values, without clipping or rounding.

        Returns
        -------
        ndarray of float32, or of float64 where float32 would not resolve single grey values of this window.
        """
        kind = np.float32 if self._float32_suffices else np.float64
        grey = np.multiply(unit, kind(self.width), dtype=kind)
        grey += kind(self.lo)
        return grey

    def clipped_shares(self, values: np.ndarray) -> tuple[float, float]:
        """Share of the values below the window and share above it."""
        values = np.asarray(values)
        size = max(values.size, 1)
        return float(np.count_nonzero(values < self.lo) / size), float(np.count_nonzero(values > self.hi) / size)

    def clipped_share(self, values: np.ndarray) -> float:
        """Share of the values that lie outside the window."""
        return sum(self.clipped_shares(values))


@dataclass(frozen=True)
class Preset:
    """A window known by name."""

    title: str
    lo: float
    hi: float


PRESETS: dict[str, Preset] = {
    "accuitomo170": Preset("Accuitomo 170, raw 16 bit", 26000, 46000),
    "hu": Preset("Hounsfield units: air to enamel", -1000, 2500),
    "hu-wide": Preset("Hounsfield units: the whole 12-bit range", -1024, 3071),
    "full16": Preset("Full 16 bit, unsigned", 0, 65535),
    "full8": Preset("Full 8 bit", 0, 255),
}
