"""The header of a NIfTI file (.nii, .nii.gz), of version 1 or 2.

Source: nifti1.h and nifti2.h, https://nifti.nimh.nih.gov
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .headers import (
    AGAIN,
    MM_PER,
    RAS_TO_LPS,
    VolumeHeader,
    check_place,
    checked_size,
    unit_vectors,
    wrong_header,
)

TYPES = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
OTHER_TYPES = {  # name, bytes
    **{0: ("unknown", 0), 1: ("1 bit", 0), 32: ("complex64", 8), 128: ("RGB", 3), 1536: ("float128", 16)},
    **{1792: ("complex128", 16), 2048: ("complex256", 32), 2304: ("RGBA", 4)},
}
UNITS = {1: "m", 2: "mm", 3: "um"}
DIFFERENT_MM = 0.01  # between what sform and qform say of a voxel's place; half of what anybody could see
DIFFERENT_SPACING = 0.01
SHEAR = 1e-3  # of direction cosines
FIELDS = {  # name: (format and offset in version 1, in version 2)
    "dim": (("8h", 40), ("8q", 16)),
    "datatype": (("h", 70), ("h", 12)),
    "bitpix": (("h", 72), ("h", 14)),
    "pixdim": (("8f", 76), ("8d", 104)),
    "vox_offset": (("f", 108), ("q", 168)),
    "scl": (("2f", 112), ("2d", 176)),
    "xyzt_units": (("b", 123), ("i", 500)),
    "codes": (("2h", 252), ("2i", 344)),
    "quaternion": (("6f", 256), ("6d", 352)),
    "srow": (("12f", 280), ("12d", 400)),
}


def read_header(path: Path) -> VolumeHeader:
    """
    Raises
    ------
    InputError
        If the header is not one of NIfTI, or what it says cannot be.
    """
    with open(path, "rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"  # whatever its name says
    try:
        with gzip.open(path) if is_packed else open(path, "rb") as stream:
            header = stream.read(544)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is damaged or incomplete ({error}).", AGAIN) from error
    version, order = _version(path, header)
    values = {
        name: struct.unpack_from(order + forms[version - 1][0], header, forms[version - 1][1])
        for name, forms in FIELDS.items()
    }
    dim = values["dim"]
    if not 1 <= dim[0] <= 7:
        raise wrong_header(path, f"it has {dim[0]} dimensions")
    size = checked_size(path, dim[1 : dim[0] + 1])
    components = 1
    if len(size) >= 5:  # the fifth dimension holds the values of a voxel
        components, size = size[4], size[:4]
        if any(n > 1 for n in dim[6 : dim[0] + 1]):
            raise wrong_header(path, f"it has {dim[0]} dimensions")
    (code,), (bits,) = values["datatype"], values["bitpix"]
    kind = TYPES.get(code)
    if kind is None and code not in OTHER_TYPES:
        raise wrong_header(path, f"there is no NIfTI data type {code}")
    itemsize = np.dtype(kind).itemsize if kind else OTHER_TYPES[code][1]
    if bits != 8 * itemsize and itemsize:
        raise wrong_header(path, f"voxels of data type {code} have {8 * itemsize} bits, not {bits}")
    if code in (128, 2304):
        components *= itemsize
    warnings: list[str] = []
    spacing, origin, direction = _place(path, values, size, warnings)
    offset = values["vox_offset"][0]
    first = 540 if version == 2 else 348
    if not np.isfinite(offset) or not (offset == 0 or first <= offset <= 1 << 40) or offset % 1:
        raise wrong_header(path, f"its voxels begin at byte {offset}")
    return VolumeHeader(
        path=path,
        size=size,
        dtype=np.dtype(order + kind) if kind else None,
        type_name=np.dtype(kind).name if kind else OTHER_TYPES[code][0],
        pieces=(path,),
        components=components,
        spacing=spacing,
        origin=origin,
        direction=direction,
        skip_bytes=int(offset) or first + 4,
        packing="deflate" if is_packed else "raw",
        scale=_scale(path, values["scl"], warnings),
        warnings=tuple(warnings),
    )


def _version(path: Path, header: bytes) -> tuple[int, str]:
    """1 or 2, and the byte order."""
    for order in "<>":
        size = struct.unpack_from(order + "i", header.ljust(4, b"\0"))[0]
        if size == 348 and len(header) >= 348:
            magic = header[344:348]
            if magic == b"n+1\0":
                return 1, order
            if magic == b"ni1\0":
                raise InputError(f"{path} is the header of a pair of files (.hdr, .img).", "Save it as one .nii file.")
            raise InputError(
                f"{path} has no NIfTI header: its mark is missing, as in Analyze files, which do not say how the "
                "patient lies.",
                "Convert the original images to NIfTI or NRRD.",
            )
        if size == 540 and len(header) >= 540:
            if header[4:12] == b"n+2\0\r\n\x1a\n":
                return 2, order
            raise InputError(f"{path} has no NIfTI-2 header: its mark is damaged.", AGAIN)
    raise InputError(f"{path} is damaged, or not what its name says: it has no NIfTI header.", AGAIN)


def _place(path: Path, values: dict, size: tuple, warnings: list[str]) -> tuple[tuple | None, tuple, np.ndarray]:
    """Spacing, origin and direction in mm and LPS: of the sform if there is one, or else of the qform."""
    qform_code, sform_code = values["codes"]
    pixdim = np.array(values["pixdim"][1:4], dtype=float)
    unit = UNITS.get(values["xyzt_units"][0] & 7)
    factor = MM_PER[unit or "mm"]
    if factor != 1:
        warnings.append(f"The file gives lengths in {unit}; they were converted to mm.")
    recorded = tuple(abs(pixdim) * factor) if np.any(pixdim != 0) else None
    if len(size) < 3 or (recorded and not all(np.isfinite(s) and s > 0 for s in recorded)):
        return recorded, (0.0, 0.0, 0.0), np.eye(3)
    qform = sform = None
    if qform_code > 0 and recorded:
        qform = _matrix_of_qform(path, values) * factor
    if sform_code > 0:
        sform = np.reshape(values["srow"], (3, 4)).astype(float) * factor
        is_empty = not sform.any()
        if is_empty or (qform is not None and not _spans_space(sform)):
            warnings.append(f"The file's sform {'holds only zeros' if is_empty else 'cannot be'}; it was not taken.")
            sform = None
    if qform is None and sform is None:
        warnings.append("The file does not say where in the patient the volume lies; its axes were taken as LPS.")
        return recorded, (0.0, 0.0, 0.0), np.eye(3)  # as in ITK, and so in Slicer
    matrix = RAS_TO_LPS @ (qform if sform is None else sform)
    spacing, direction = unit_vectors(matrix[:, :3])
    check_place(path, matrix[:, 3], direction)
    if sform is not None and qform is not None:
        apart = _distance(sform, qform, size)
        if apart > DIFFERENT_MM:
            warnings.append(
                f"The file's sform and qform place voxels up to {apart:.3g} mm apart; the sform was taken, as most "
                "programs do."
            )
    elif sform is not None and recorded and not np.allclose(spacing, recorded, rtol=DIFFERENT_SPACING, atol=0):
        words = [" x ".join(f"{s:.4g}" for s in some) for some in (recorded, spacing)]
        warnings.append(f"The file's pixdim says {words[0]} mm and its sform {words[1]} mm; the sform was taken.")
    shear = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if shear > SHEAR:
        warnings.append(
            f"The axes of the file are not at right angles ({np.degrees(np.arcsin(min(1.0, shear))):.2g} degrees off); "
            "voxels keep their places on a sheared grid."
        )
    return spacing, tuple(float(x) for x in matrix[:, 3]), direction


def _spans_space(matrix: np.ndarray) -> bool:
    steps = matrix[:, :3]
    return bool(np.isfinite(matrix).all()) and abs(np.linalg.det(steps)) > 1e-6 * np.linalg.norm(steps, axis=0).prod()


def _matrix_of_qform(path: Path, values: dict) -> np.ndarray:
    """The (3, 4) matrix of nifti1.h, method 2."""
    b, c, d, *offset = (float(x) for x in values["quaternion"])
    square = b * b + c * c + d * d
    if not np.isfinite([square, *offset]).all() or square > 1.01:
        raise wrong_header(path, "its quaternion is no rotation")
    a = np.sqrt(max(0.0, 1 - square))
    if a < 1e-7:
        b, c, d = np.array([b, c, d]) / np.sqrt(square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - b * b - c * c],
        ]
    )
    pixdim = np.abs(np.array(values["pixdim"][1:4], dtype=float))
    handed = -1.0 if values["pixdim"][0] < 0 else 1.0
    return np.column_stack([rotation * pixdim * [1, 1, handed], offset])


def _distance(a: np.ndarray, b: np.ndarray, size: tuple) -> float:
    """How far two matrices place a corner voxel apart, at most, in mm."""
    last = np.subtract(size[:3], 1)
    corners = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])], dtype=float)
    return float(np.linalg.norm((a - b) @ np.column_stack([corners, np.ones(8)]).T, axis=0).max())


def _scale(path: Path, scl: tuple[float, float], warnings: list[str]) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means that there are none, as the standard says, whatever the intercept."""
    slope, intercept = (float(x) for x in scl)
    if slope == 0 or (np.isnan(slope) and (np.isnan(intercept) or intercept == 0)):
        if slope == 0 and np.isfinite(intercept) and intercept != 0:
            warnings.append(
                f"The file's scl_slope is 0, which by the standard means no scaling; its intercept {intercept:g} was "
                "not added. Some programs add it."
            )
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise wrong_header(path, f"its grey values would be {slope} x stored + {intercept}")
    return slope, intercept
