"""Volumes, grids and DICOM files made for tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume

TEXT = {"CS", "DA", "DS", "IS", "LO", "PN", "SH", "TM", "UI"}
SHORT = {"US": "<H", "SS": "<h"}


def make_rotation(seed: int, left_handed: bool = False) -> np.ndarray:
    """A random orthonormal direction (3, 3)."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    if (np.linalg.det(q) < 0) != left_handed:
        q[:, 0] = -q[:, 0]
    return q


def make_grid(
    size: Sequence[int],
    spacing: Sequence[float] = (0.3, 0.25, 0.4),
    seed: int = 0,
    oblique: bool = True,
    left_handed: bool = False,
    reach: float = 200.0,
) -> Grid:
    """A grid whose origin is up to `reach` mm away along each axis."""
    origin = np.random.default_rng(seed + 1).uniform(-reach, reach, 3)
    return Grid(tuple(size), tuple(spacing), tuple(origin), make_rotation(seed, left_handed) if oblique else np.eye(3))


def make_volume(
    shape: Sequence[int] = (7, 9, 11),
    dtype: str = "uint16",
    seed: int = 0,
    spacing: Sequence[float] = (0.3, 0.25, 0.4),
    oblique: bool = True,
    left_handed: bool = False,
) -> Volume:
    """Noise over a smooth ramp, with the extremes of integer types, at an oblique place."""
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    ramp = np.add.outer(np.add.outer(np.arange(shape[0]), np.arange(shape[1])), np.arange(shape[2])) / sum(shape)
    unit = np.clip(0.7 * ramp + 0.3 * random.random(tuple(shape)), 0, 1)
    if kind.kind == "f":
        voxels = (unit * 4000 - 1000).astype(kind)
    else:
        limits = np.iinfo(kind)
        lo, hi = max(int(limits.min), -1000), min(int(limits.max), 60000)
        voxels = (lo + np.rint(unit * (hi - lo))).astype(kind)
        voxels[0, 0, :2] = limits.min, limits.max
    grid = make_grid(tuple(shape[::-1]), spacing, seed, oblique, left_handed)
    return Volume(voxels, grid)


def corners(grid: Grid, outer: bool = False) -> np.ndarray:
    """LPS positions (8, 3) of the corner voxels' centres, or of the volume's outermost points."""
    lo, hi = (-0.5, np.asarray(grid.size) - 0.5) if outer else (0, np.asarray(grid.size) - 1)
    bounds = list(zip(np.broadcast_to(lo, 3), np.broadcast_to(hi, 3), strict=True))
    return np.array([grid.point((i, j, k)) for i in bounds[0] for j in bounds[1] for k in bounds[2]])


def position_error_mm(a: Grid, b: Grid) -> float:
    """Largest distance along an axis between corresponding corner voxels of two grids of one size."""
    assert a.size == b.size
    return float(np.abs(corners(a) - corners(b)).max())


def write_dicom(path: Path, pixels: np.ndarray, tags: Mapping[str, tuple[str, object]]) -> Path:
    """Write one DICOM slice in explicit VR little endian (PS3.5), 8 or 16 bits, with exactly these further tags.

    `tags` maps "gggg|eeee" to (VR, value); it may overrule the usual ones.
    """
    bits = pixels.dtype.itemsize * 8
    elements: dict[str, tuple[str, object]] = {
        "0008|0016": ("UI", "1.2.840.10008.5.1.4.1.1.2"),
        "0008|0018": ("UI", f"1.2.826.0.1.1.{zlib.crc32(path.name.encode())}"),
        "0008|0060": ("CS", "CT"),
        "0020|000d": ("UI", "1.2.826.0.1.1"),
        "0020|000e": ("UI", "1.2.826.0.1.1.1"),
        "0028|0002": ("US", 1),
        "0028|0004": ("CS", "MONOCHROME2"),
        "0028|0010": ("US", pixels.shape[0]),
        "0028|0011": ("US", pixels.shape[1]),
        "0028|0100": ("US", bits),
        "0028|0101": ("US", bits),
        "0028|0102": ("US", bits - 1),
        "0028|0103": ("US", int(pixels.dtype.kind == "i")),
    }
    elements.update(tags)
    elements["7fe0|0010"] = ("OW", pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
    meta = _element("0002|0001", "OB", b"\0\1") + _element("0002|0002", "UI", elements["0008|0016"][1])
    meta += _element("0002|0003", "UI", elements["0008|0018"][1]) + _element("0002|0010", "UI", "1.2.840.10008.1.2.1")
    head = b"\0" * 128 + b"DICM" + _element("0002|0000", "UL", struct.pack("<I", len(meta))) + meta
    path.write_bytes(head + b"".join(_element(key, *elements[key]) for key in sorted(elements)))
    return path


def write_dicom_series(
    folder: Path,
    voxels: np.ndarray,
    grid: Grid,
    tags: Mapping[str, tuple[str, object]] | None = None,
    names: Sequence[str] | None = None,
    positions: np.ndarray | None = None,
) -> list[Path]:
    """Write a volume as slices; `names` and `positions` (n, 3) are in the order of k."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k, pixels in enumerate(voxels):
        position = grid.point((0, 0, k)) if positions is None else positions[k]
        own = {
            "0018|0050": ("DS", f"{grid.spacing[2]:.10g}"),
            "0020|0013": ("IS", str(k + 1)),
            "0020|0032": ("DS", "\\".join(f"{x:.10g}" for x in position)),
            "0020|0037": ("DS", "\\".join(f"{x:.12g}" for x in grid.direction[:, :2].T.ravel())),
            "0028|0030": ("DS", f"{grid.spacing[1]:.10g}\\{grid.spacing[0]:.10g}"),
        }
        name = names[k] if names else f"slice{k:03d}.dcm"
        files.append(write_dicom(folder / name, pixels, {**own, **(tags or {})}))
    return files


def _element(key: str, vr: str, value: object) -> bytes:
    group, element = (int(part, 16) for part in key.split("|"))
    if vr in SHORT:
        data = struct.pack(SHORT[vr], value)
    elif vr in TEXT:
        data = str(value).encode("latin-1")
    else:
        data = value
    if len(data) % 2:
        data += b"\0" if vr == "UI" or vr not in TEXT else b" "
    head = struct.pack("<HH2s", group, element, vr.encode())
    long = vr in ("OB", "OW")
    return head + (struct.pack("<HI", 0, len(data)) if long else struct.pack("<H", len(data))) + data
