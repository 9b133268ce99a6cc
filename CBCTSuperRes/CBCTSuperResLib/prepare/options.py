"""What a user may choose when a pair of scans is made into training data."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields

import numpy as np

from ..core.errors import OptionError
from ..core.options import PLANES

FORMATS = ("tif", "png", "nrrd")
REGIONS = ("inside", "whole")
INTENSITIES = ("auto", "same", "matched")


@dataclass(frozen=True)
class PrepareOptions:
    """Choices for `prepare_pair` and `prepare_folders`; every default is what most users want.

    Attributes
    ----------
    scale : int
        How many HR pixels lie along one LR pixel of the written pair.
    planes : "axial" or "isotropic"
        LR is coarser in the slice plane only, its slices at the HR scan's heights (for 2-D networks), or along all
        three axes (for 3-D networks; needs `format` "nrrd").
    format : "tif", "png" or "nrrd"
        16-bit slices, or one 16-bit volume for each scan.
    region : "inside" or "whole"
        The largest box inside both fields of view, where every voxel was measured twice; or the box around what they
        have in common, the rest of it filled alike in both images.
    min_size : int
        Least width and height of the region in HR voxels; HR_size of the training that is planned.
    min_slices : int
        Least number of HR slices of the region.
    window : None, "auto", a preset's name, or (lo, hi) in grey values of the HR scan
        Normalisation range; None is "auto": chosen so that it holds all tissues of the HR scan.
    intensity : "auto", "same" or "matched"
        Window of the LR scan: the HR scan's ("same"), or that carried over by the straight line between the two
        scans' grey values ("matched"). "auto" matches where a bound moves by more than 2 % of the window.
    blank_lr, blank_hr : "auto", "none" or a grey value
        What is blank region in each scan.
    initial : str or None
        Transform file (.tfm, .txt, .h5, .mat) to start from: the rigid transform that, put onto the LR volume in
        Slicer, moves it onto the HR volume (ITK: from points of HR to points of LR).
    register : bool
        False takes the scans, or `initial`, to be aligned already; the alignment is still measured and judged.
    max_rotation_deg, max_shift_mm : float, float or None
        How far registration may move the LR scan from where it started; None is half the HR scan's diagonal.
    min_overlap : float
        Least share of the smaller scan's measured volume that both scans show.
    max_residual : float
        Largest median residual misalignment, in LR voxels.
    min_correlation : float
        Least correlation of the gradient magnitudes of the two images.
    seed : int
        Of the registration's samples and of the split into patients.
    val_share : float
        Share of the patients whose pairs are for validation (`prepare_folders`).
    patient_pattern : str or None
        Regular expression found in a scan's name; its first group, or else the whole match, is the patient. None: each
        scan is a patient of its own.
    lr_spacing, hr_spacing : (x, y, z) in mm or None
        For scans whose files record none.
    override : bool
        Whether these are believed where a file records another spacing.
    lr_series, hr_series : str or None
        Which series of a DICOM folder.
    """

    scale: int = 2
    planes: str = "axial"
    format: str = "tif"
    region: str = "inside"
    min_size: int = 128
    min_slices: int = 8
    window: str | tuple[float, float] | None = None
    intensity: str = "auto"
    blank_lr: str | float = "auto"
    blank_hr: str | float = "auto"
    initial: str | None = None
    register: bool = True
    max_rotation_deg: float = 30.0
    max_shift_mm: float | None = None
    min_overlap: float = 0.3
    max_residual: float = 1.0
    min_correlation: float = 0.5
    seed: int = 0
    val_share: float = 0.2
    patient_pattern: str | None = None
    lr_spacing: tuple[float, float, float] | None = None
    hr_spacing: tuple[float, float, float] | None = None
    override: bool = False
    lr_series: str | None = None
    hr_series: str | None = None

    def __post_init__(self) -> None:
        for name in ("window", "lr_spacing", "hr_spacing"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, allowed in (
            ("planes", PLANES),
            ("format", FORMATS),
            ("region", REGIONS),
            ("intensity", INTENSITIES),
        ):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}.", f"Choose one of {', '.join(allowed)}.")
        for name, lowest, highest in _RANGES:
            value = getattr(self, name)
            is_number = (
                isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and np.isfinite(value)
            )
            if value is not None and not (is_number and lowest <= value <= highest):
                raise OptionError(f"{name} is {value!r}.", f"Choose a value from {lowest:g} to {highest:g}.")
        for name in ("scale", "min_size", "min_slices", "seed"):
            if int(getattr(self, name)) != getattr(self, name):
                raise OptionError(f"{name} is {getattr(self, name)!r}.", "Choose a whole number.")
        if self.planes == "isotropic" and self.format != "nrrd":
            raise OptionError(
                "Slices that are coarser along all axes do not pair one to one.", 'Choose the format "nrrd".'
            )
        try:
            re.compile(self.patient_pattern or "")
        except re.error as error:
            raise OptionError(
                f"The patient pattern {self.patient_pattern!r} is no regular expression ({error}).",
                r"Give for instance '^(P\d+)'.",
            ) from error

    @property
    def factors(self) -> tuple[int, int, int]:
        """HR voxels along one LR voxel, along (i, j, k)."""
        return (self.scale, self.scale, self.scale if self.planes == "isotropic" else 1)

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(values: dict) -> PrepareOptions:
        unknown = set(values) - {f.name for f in fields(PrepareOptions)}
        if unknown:
            raise OptionError(f"Unknown options: {', '.join(sorted(unknown))}.")
        return PrepareOptions(**values)


_RANGES = (
    ("scale", 2, 8),
    ("min_size", 8, 4096),
    ("min_slices", 1, 4096),
    ("max_rotation_deg", 0, 180),
    ("max_shift_mm", 0, 1e4),
    ("min_overlap", 0.01, 1),
    ("max_residual", 0.05, 10),
    ("min_correlation", -1, 1),
    ("seed", 0, 2**31 - 1),
    ("val_share", 0, 0.9),
)
