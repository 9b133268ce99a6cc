"""Scans with known truth, as files: what `cbct-superres phantom` makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..core.atomic import write_text
from ..core.errors import OptionError, OutputError
from ..core.progress import part_of
from ..io.pictures import comparison, enlarge_nearest, write_picture
from ..io.volume import Volume
from .anatomy import STANDARD_LEVELS
from .artefacts import Scanner, scan
from .label_map import phantom_of_labels, read_label_map
from .phantom import WINDOW, as_scan, jaw_phantom, oblique_grid

PHYSICS = ("image", "fdk")
METAL = 1.5  # level above which there is metal
LARGEST_FDK = 1.2e7  # voxels, which take about half an hour on two cores
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class PhantomRequest:
    """What is asked of a phantom.

    Attributes
    ----------
    shape : (k, j, i)
        Voxels of the fine scan; even.
    spacing_mm : float
        Of the fine scan.
    seed : int
        Of anatomy and noise.
    planes : "axial" or "isotropic"
        Whether the coarse scan has half the samples within the slices or along all axes.
    thick_slices : int
        Where it is above 1, the coarse scan is as fine as the fine one within the slices, and so many times coarser
        between them: each slice is the mean over its thickness. `planes` must be "axial" then.
    metal : bool
        Put a metal crown onto one tooth.
    noise : float
        Of the coarse scan, as a share of the window.
    artefacts : bool
        Cupping, rings and metal streaks.
    blank : float or None
        Grey value outside the cylindrical field of view; None for none.
    labels : path or None
        Label map to draw tissues into; None draws a jaw section.
    physics : "image" or "fdk"
        Whether the scanner's effects are added to the image, or the object is projected and reconstructed.
    projections : int
        For "fdk".
    """

    shape: tuple[int, int, int] = (64, 256, 256)
    spacing_mm: float = 0.125
    seed: int = 0
    planes: str = "axial"
    thick_slices: int = 1
    metal: bool = False
    noise: float = 0.02
    artefacts: bool = True
    blank: float | None = 0.0
    labels: str | None = None
    physics: str = "image"
    projections: int = 360

    def __post_init__(self) -> None:
        if any(n < 16 or n % 2 for n in self.shape):
            raise OptionError(f"The shape {self.shape} does not do.", "Give three even numbers from 16 on.")
        if not 0.01 <= self.spacing_mm <= 2:
            raise OptionError(f"The spacing {self.spacing_mm} mm does not do.", "Give 0.01 to 2 mm.")
        if not 0 <= self.noise <= 0.5:
            raise OptionError(f"The noise {self.noise} does not do.", "Give a share of the window, 0 to 0.5.")
        if self.planes not in ("axial", "isotropic") or self.physics not in PHYSICS:
            raise OptionError("Planes are axial or isotropic, physics is image or fdk.")
        if self.thick_slices < 1 or self.shape[0] % self.thick_slices:
            raise OptionError(
                f"{self.shape[0]} fine slices cannot be joined into slices {self.thick_slices} times as thick.",
                "Give a whole number that divides the first of --shape.",
            )
        if self.thick_slices > 1 and self.planes != "axial":
            raise OptionError("Thick slices and planes isotropic contradict each other.", "Choose one of them.")
        if self.physics == "fdk" and self.planes == "axial":
            raise OptionError("A reconstruction has cubic voxels.", "Choose planes isotropic with physics fdk.")
        if self.physics == "fdk" and np.prod(self.shape) > LARGEST_FDK:
            raise OptionError(
                "To project so many voxels would take hours.", "Choose a smaller shape, or physics image."
            )


@dataclass(frozen=True)
class PhantomScans:
    """Two scans of one object, and the object.

    Attributes
    ----------
    truth : Volume
        float32, in units of the window: exact but for the voxels' size.
    fine, coarse : Volume
        uint16 grey values.
    """

    truth: Volume
    fine: Volume
    coarse: Volume


def make_phantom(
    request: PhantomRequest, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> PhantomScans:
    """Draw the object and scan it twice, finely and coarsely; the same request gives the same scans."""
    progress = progress or (lambda fraction, message: None)
    progress(0.0, "Drawing the object")
    shape, spacing, seed = request.shape, request.spacing_mm, request.seed
    if request.labels:
        field, grid = phantom_of_labels(read_label_map(request.labels), spacing, shape=shape, seed=seed)
    else:
        field, grid = jaw_phantom(shape, spacing, seed, metal=request.metal), oblique_grid(shape, spacing, seed)

    progress(0.3, "Scanning")
    clean = {} if request.artefacts else {"cupping": 0.0, "rings": 0.0, "streaks": 0.0}
    scanner = Scanner(noise=request.noise, **clean)
    metal = METAL if request.metal else None
    fine = scan(field, scanner.sharpest, seed, planes=request.planes, metal=metal)
    if request.thick_slices > 1:
        thick = replace(scanner.sharpest, factor=request.thick_slices, noise=scanner.noise, cupping=scanner.cupping)
        coarse = scan(field, thick, seed + 1, planes="thick", metal=metal)
    elif request.physics == "image":
        coarse = scan(field, scanner, seed + 1, planes=request.planes, metal=metal)
    else:
        from .cone_beam import ConeBeam, cone_beam_scan  # torch is needed for this only

        photons = None if request.noise == 0 else 2e5 * (0.02 / request.noise) ** 2
        beam = ConeBeam(projections=request.projections, photons=photons, focal_spot_mm=0.75 * spacing)
        rest = part_of(progress, 0.3, 1.0)
        coarse = cone_beam_scan(field, spacing, 2 * spacing, beam, seed, progress=rest, cancelled=cancelled)

    halved = grid.resampled(coarse.shape[::-1])
    progress(1.0, "Done")
    return PhantomScans(Volume(field, grid), as_scan(fine, grid, request.blank), as_scan(coarse, halved, request.blank))


def write_phantom(
    request: PhantomRequest,
    folder: str | Path,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Make a phantom and write fine.nrrd, coarse.nrrd, truth.nrrd, phantom.json and picture.png into a folder.

    Raises
    ------
    SuperResError
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error}.", "Choose another one.") from error
    scans = make_phantom(request, progress, cancelled)
    for name in ("truth", "fine", "coarse"):
        getattr(scans, name).write(folder / f"{name}.nrrd")
    facts = {**asdict(request), "window": list(WINDOW), "levels": asdict(STANDARD_LEVELS)}
    write_text(folder / "phantom.json", json.dumps(facts, indent=2))
    views = {}
    for title, volume in {"coarse scan": scans.coarse, "fine scan": scans.fine, "truth": scans.truth}.items():
        plane = volume.voxels[len(volume.voxels) // 2] if request.thick_slices == 1 else _coronal(volume.voxels)
        grey = plane.astype(np.float32)
        views[title] = grey if volume is scans.truth else (grey - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
    if request.thick_slices == 1:
        views["coarse scan"] = enlarge_nearest(views["coarse scan"], 2)
    else:
        views["coarse scan"] = views["coarse scan"].repeat(request.thick_slices, 0)
    picture = comparison(views)
    write_picture(picture, folder / "picture.png")
    return folder


def _coronal(voxels: np.ndarray) -> np.ndarray:
    """The middle coronal slice (k, i), in which thick slices show; its upper end first."""
    return voxels[::-1, voxels.shape[1] // 2]
