"""What is attacked: every kind of file that somebody may send, with sound files of it and what reads them."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
import tifffile
from CBCTSuperResLib.core.events import EventReader
from CBCTSuperResLib.io.dicom_header import read_file as read_dicom_file
from CBCTSuperResLib.io.read import read_volume
from CBCTSuperResLib.io.slice_files import read_facts
from CBCTSuperResLib.io.volume_files import read_header

SPACING = (0.1, 0.1, 0.1)
VOXELS = np.random.default_rng(0).integers(100, 4000, (3, 12, 14)).astype(np.uint16)


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes
    ----------
    name : str
    suffix : str
    seeds : sequence of bytes
        Sound files.
    gate : callable
        Reads the header of a file; may raise `SuperResError` and nothing else.
    read : callable or None
        Reads all of it.
    weight : int
        Its share of a campaign.
    repair : callable or None
        Makes checksums right again, so that what lies behind them is tried, too; for every second input.
    """

    name: str
    suffix: str
    seeds: Sequence[bytes]
    gate: Callable[[Path], object]
    read: Callable[[Path], object] | None = None
    weight: int = 1
    repair: Callable[[bytes], bytes] | None = None


def all_targets(only: Sequence[str] | None = None) -> list[Target]:
    """Everything, or those of some names; the seeds are made anew."""
    folder = Path(tempfile.mkdtemp(prefix="seeds-"))
    try:
        found = [*_volumes(folder), *_pictures(folder), _dicom(folder)]
        if only is None or set(only) - {target.name for target in found}:
            found += _own_files(folder)  # torch takes seconds to import
        return [target for target in found if only is None or target.name in only]
    finally:
        shutil.rmtree(folder)


def _read(path: Path) -> None:
    read_volume(path, spacing=SPACING, override=True)


def _saved(folder: Path, suffix: str, voxels: np.ndarray = VOXELS, compress: bool = False) -> bytes:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.3, 0.2, 0.4))
    image.SetOrigin((1, -2, 3))
    path = folder / f"seed{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path.read_bytes()


def _volumes(folder: Path) -> list[Target]:
    kinds = (VOXELS, VOXELS.astype(np.float32), VOXELS.astype(np.uint8))
    both = [(voxels, compress) for voxels in kinds for compress in (False, True)]
    nrrd, mha = ([_saved(folder, suffix, *one) for one in both] for suffix in (".nrrd", ".mha"))
    text = " ".join(map(str, VOXELS[:, :4, :4].ravel())).encode()
    nrrd.append(
        b'NRRD0005\n# made by hand\ntype: ushort\ndimension: 3\nsizes: 4 4 3\nspacings: 0.1 0.2 0.3\nunits: "um" "um" '
        b'"um"\naxis mins: 1 2 3\ncenters: cell cell cell\nencoding: ascii\nkey:=value\n\n' + text
    )
    mha.append(
        b"ObjectType = Image\nNDims = 3\nBinaryData = False\nDistanceUnits = um\nDimSize = 4 4 3\n"
        b"ElementType = MET_USHORT\nElementToIntensityFunctionSlope = 2\nElementSize = 1 2 3\nElementDataFile = LOCAL\n"
        + text
    )
    nifti = [_saved(folder, ".nii", voxels) for voxels in kinds]
    second = bytearray(544)
    second[:12] = struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n"
    struct.pack_into("<2h", second, 12, 512, 16)
    struct.pack_into("<8q", second, 16, 3, 14, 12, 3, 1, 1, 1, 1)
    struct.pack_into("<8d", second, 104, 1, 0.3, 0.2, 0.4, 0, 0, 0, 0)
    struct.pack_into("<q", second, 168, 544)
    nifti.append(bytes(second) + VOXELS.tobytes())
    listed = b"NRRD0004\ntype: uint16\ndimension: 3\nsizes: 14 12 3\nendian: little\nencoding: raw\n"
    detached = [
        listed + b"data file: seed.raw\n",
        listed + b"data file: s%02d.raw 0 2 1\n",
        listed + b"data file: LIST\ns00.raw\ns01.raw\ns02.raw\n",
    ]
    mhd = b"ObjectType = Image\nNDims = 3\nDimSize = 14 12 3\nElementType = MET_USHORT\nElementDataFile = "
    return [
        Target("nrrd", ".nrrd", nrrd, read_header, _read, 4),
        Target("nhdr", ".nhdr", detached, read_header, _read, 2),
        Target("mha", ".mha", mha, read_header, _read, 4),
        Target("mhd", ".mhd", [mhd + b"seed.raw\n", mhd + b"LIST\ns00.raw\ns01.raw\ns02.raw\n"], read_header, _read, 2),
        Target("nifti", ".nii", nifti, read_header, _read, 4),
        Target("nifti-gz", ".nii.gz", [gzip.compress(one) for one in nifti], read_header, _read, 1),
    ]


def _pictures(folder: Path) -> list[Target]:
    tiff = []
    for number, options in enumerate(
        (
            {},
            {"compression": "zlib", "rowsperstrip": 5},
            {"tile": (16, 16), "compression": "zlib"},
            {"imagej": True, "metadata": {"spacing": 0.4, "unit": "mm", "axes": "ZYX"}, "resolution": (4, 4)},
            {"ome": True, "metadata": {"axes": "ZYX"}},
            {"bigtiff": True, "byteorder": ">"},
        )
    ):
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, VOXELS, photometric="minisblack", **options)
        tiff.append(path.read_bytes())
    tiff.append(cv2.imencode(".tif", VOXELS[0])[1].tobytes())
    grey = cv2.imencode(".png", VOXELS[0])[1].tobytes()
    png = [grey, cv2.imencode(".png", VOXELS[0].astype(np.uint8))[1].tobytes()]

    def read_png(path: Path) -> None:
        beside = path.parent / "slices"
        beside.mkdir(exist_ok=True)
        shutil.copy(path, beside / "s1.png")
        (beside / "s2.png").write_bytes(grey)
        _read(beside)

    return [
        Target("tiff", ".tif", tiff, read_facts, _read, 2),
        Target("png", ".png", png, read_facts, read_png, 3, with_right_checksums),
    ]


def with_right_checksums(data: bytes) -> bytes:
    """A PNG file with the checksums of its chunks computed anew."""
    out, at = data[:8], 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        out += data[at : at + 8] + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
        at += 12 + length
    return out


def _dicom(folder: Path) -> Target:
    from dicom_files import enhanced, heights, image, ramp, save

    stack = ramp()
    seeds = [save(image(stack), folder / "a.dcm").read_bytes()]
    seeds.append(save(enhanced(stack, heights([0.25 * k for k in range(len(stack))])), folder / "b.dcm").read_bytes())
    return Target("dicom", ".dcm", seeds, read_dicom_file, _read, 1)


def _own_files(folder: Path) -> list[Target]:
    """Models, options, events, checkpoints and reports: they come from other people as scans do."""
    import torch
    from CBCTSuperResLib.core.options import Options
    from CBCTSuperResLib.core.resources import resource
    from CBCTSuperResLib.importers import import_checkpoint
    from CBCTSuperResLib.jobs.job import Job
    from CBCTSuperResLib.jobs.queue import FileTask
    from CBCTSuperResLib.models.card import ModelCard, read_card
    from CBCTSuperResLib.models.folder import list_models
    from CBCTSuperResLib.models.model import Model
    from CBCTSuperResLib.networks import build_network
    from CBCTSuperResLib.train.checkpoints import read_checkpoint
    from CBCTSuperResLib.train.options_file import read_options

    network = build_network("unetspsr", nf=4, gc=4, nb=4)
    card = ModelCard(name="m", title="A model", spec=network.describe(), window=(0.0, 4000.0))
    model = Model(network, card).save(folder / "m.safetensors").read_bytes()
    torch.save({"version": 1, "networks": {"G": {"w": torch.ones(3)}}, "options": {}, "step": 4}, folder / "4.state")
    events = b"".join(
        json.dumps(one).encode() + b"\n"
        for one in (
            {"event": "started", "pid": 1, "group": 1, "host": "h"},
            {"event": "progress", "fraction": 0.5, "message": "Computing", "remaining_s": 3.0},
            {"event": "done", "report": {"warnings": []}},
        )
    )

    def followed(path: Path) -> None:
        """A job's folder that somebody else wrote."""
        inside = path.parent / "job"
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir()
        (inside / "job.json").write_text('{"kind": "train"}', encoding="utf-8")
        shutil.copy(path, inside / "events.jsonl")
        EventReader(path).read()
        Job.attach(inside).poll()

    def up_to_date(path: Path) -> None:
        source = path.with_name("scan.nrrd")
        source.touch()
        shutil.copy(path, path.with_name("out.nrrd.json"))
        FileTask(source, path.with_name("out.nrrd"), card, Options()).is_up_to_date()

    def in_folder(path: Path) -> None:
        read_card(path)
        list_models([path.parent])

    names = ("light.json", "quick-look.json", "train_unetspsr.json")
    presets = [resource(f"Configurations/{name}").read_bytes() for name in names]
    report = json.dumps({"input": {"path": "a"}, "output": {}, "options": {}, "reading": {}, "super_resolution": {}})
    return [
        Target(
            "model", ".safetensors", [model, model[: 8 + int.from_bytes(model[:8], "little") + 64]], in_folder, None, 1
        ),
        Target("options", ".json", presets, read_options, None, 1),
        Target("events", ".jsonl", [events], followed, None, 1),
        Target("report", ".json", [report.encode()], up_to_date, None, 1),
        Target("checkpoint", ".state", [(folder / "4.state").read_bytes()], read_checkpoint, None, 1),
        Target("weights", ".pth", [(folder / "4.state").read_bytes(), model], import_checkpoint, None, 1),
    ]
