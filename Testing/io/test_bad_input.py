"""Bad input files: a clear error that says what, why and what to do, and an untouched input."""

from __future__ import annotations

import gzip
import os
import struct
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import InputError, OptionError, OutputError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io import checks
from CBCTSuperResLib.io.exchange import write_exchange
from CBCTSuperResLib.io.read import probe, read_volume
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.io.write import write_volume
from helpers import make_volume


def _refuses(path, message, **options):
    with pytest.raises(InputError, match=message) as error:
        read_volume(path, **options)
    assert error.value.advice
    return error.value


def _save(path, voxels, **options):
    sitk.WriteImage(sitk.GetImageFromArray(voxels, **options), str(path))
    return path


@pytest.mark.parametrize("name", ["no such.nrrd", "Zähne/歯.nii.gz", "no folder", "x" * 300])
def test_a_missing_file(tmp_path, name):
    _refuses(tmp_path / name, "does not exist")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii", "a.nii.gz", "a.npy", "a.dcm", "a.tif"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    _refuses(tmp_path / name, "empty file", spacing=(1, 1, 1))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii", "a.nii.gz", "a.npy", "a.dcm", "a.tif"])
def test_a_file_of_something_else(tmp_path, name):
    (tmp_path / name).write_text("These are no voxels. " * 50)
    with pytest.raises(InputError, match=name):
        read_volume(tmp_path / name, spacing=(1, 1, 1))


@pytest.mark.parametrize("name", ["a.docx", "a", "a.stl", "a.jpg"])
def test_a_format_that_is_not_known(tmp_path, name):
    (tmp_path / name).write_text("x" * 1000)
    assert "NRRD" in _refuses(tmp_path / name, "not of a known format").advice


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])
def test_a_truncated_file(tmp_path, suffix, compress):
    path = write_volume(make_volume((12, 20, 30)), tmp_path / f"a{suffix}", compress=compress)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    _refuses(path, "incomplete")


def test_a_packed_file_with_a_flipped_bit(tmp_path):
    path = write_volume(make_volume((12, 20, 30)), tmp_path / "a.nii.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    _refuses(path, "damaged|incomplete")


def test_a_truncated_exchange_file(tmp_path):
    path = write_exchange(make_volume(), tmp_path / "a.npy")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError):
        read_volume(path)


def test_detached_data_that_are_missing(tmp_path):
    (tmp_path / "a.nhdr").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 5 4 3\nspacings: 1 1 1\nencoding: raw\ndata file: gone.raw\n"
    )
    _refuses(tmp_path / "a.nhdr", "a.nhdr")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_a_single_image(tmp_path, suffix):
    voxels = make_volume().voxels
    _refuses(_save(tmp_path / f"a{suffix}", voxels[0]), "single image")
    _refuses(_save(tmp_path / f"b{suffix}", voxels[:1]), "single")
    _refuses(_save(tmp_path / f"c{suffix}", np.ascontiguousarray(voxels[:, :1])), "single slice along one axis")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_a_time_series(tmp_path, suffix):
    voxels = np.stack([make_volume().voxels] * 2).astype(np.int16)
    _refuses(_save(tmp_path / f"a{suffix}", voxels, isVector=False), "time series")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_colour_volume(tmp_path, suffix):
    voxels = np.stack([make_volume(dtype="uint8").voxels] * 3, axis=-1)
    _refuses(_save(tmp_path / f"a{suffix}", voxels, isVector=True), "3 values in each voxel")


def test_complex_numbers(tmp_path):
    _refuses(_save(tmp_path / "a.nrrd", make_volume().voxels.astype(np.complex64)), "values in each voxel")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_counted_and_located(tmp_path, bad, monkeypatch):
    monkeypatch.setattr(checks, "SLAB_BYTES", 500)
    volume = make_volume(dtype="float32")
    volume.voxels[4, 5, 6] = volume.voxels[5, 0, 0] = bad
    path = write_volume(volume, tmp_path / "a.nrrd")
    _refuses(path, r"2 of 693 voxels are not finite .*\(6, 5, 4\)")


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_a_constant_volume(tmp_path, kind):
    path = write_volume(Volume(np.full((5, 6, 7), 7, kind), Grid((7, 6, 5))), tmp_path / "a.nrrd")
    _refuses(path, "All voxels have the same value, 7")


@pytest.mark.parametrize("kind", ["uint8", "int16", "int64", "float32"])
@pytest.mark.parametrize("labels", [(0, 1), (0, 255), (0, 1, 2, 3, 4, 5), (-1, 0, 1)])
def test_a_label_map(tmp_path, kind, labels):
    labels = [abs(n) for n in labels] if kind == "uint8" else labels
    voxels = np.random.default_rng(0).choice(labels, (8, 9, 10)).astype(kind)
    path = write_volume(Volume(voxels, Grid((10, 9, 8))), tmp_path / "a.nrrd")
    assert (
        "scan that it was drawn on"
        in _refuses(path, f"label map: its voxels have only {len(set(labels))} values").advice
    )


def test_a_real_label_map(shared_data):
    _refuses(shared_data / "craniofacial_labels.nii.gz", "label map: its voxels have only 6 values")


@pytest.mark.parametrize(
    "values",
    [
        np.arange(17),
        np.arange(200),
        [0, 1000],
        [-1000.0, 0.0, 60.0, 1500.0],
        [0.0, 0.25, 0.5, 1.0],
    ],
)
def test_a_scan_with_few_grey_values_is_no_label_map(values):
    values = np.asarray(values)
    checks.check_voxels(np.resize(values, (8, 9, 10)))


def test_grey_values_that_are_rare_save_a_volume_from_being_a_label_map(monkeypatch):
    monkeypatch.setattr(checks, "SLAB_BYTES", 500)
    voxels = np.zeros((20, 20, 20), np.uint8)
    voxels[3, 3, :] = np.arange(20)
    checks.check_voxels(voxels)


def test_booleans(tmp_path):
    with pytest.raises(InputError, match="bool"):
        read_volume(
            write_exchange(Volume(np.eye(6, dtype=bool)[None].repeat(3, 0), Grid((6, 6, 3))), tmp_path / "a.npy")
        )


@pytest.mark.parametrize("spacings", ["-1 1 1", "nan 1 1"])
def test_a_spacing_that_cannot_be_in_nrrd(tmp_path, spacings):
    path = tmp_path / "a.nrrd"
    header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 3 4 5\nspacings: {spacings}\nencoding: raw\n\n"
    path.write_bytes(header.encode() + bytes(range(60)))
    _refuses(path, "spacing")
    with pytest.raises(InputError, match="spacing"):
        probe(path)
    assert read_volume(path, spacing=(0.1, 0.1, 0.2)).spacing == (0.1, 0.1, 0.2)


@pytest.mark.parametrize(
    "line", ["ElementSpacing = 0 1 1\n", "ElementSpacing = -1 1 1\n", "ElementSpacing = nan 1 1\n"]
)
def test_a_spacing_that_cannot_be_in_metaimage(tmp_path, line):
    path = tmp_path / "a.mha"
    header = f"ObjectType = Image\nNDims = 3\nBinaryData = True\n{line}DimSize = 5 4 3\nElementType = MET_UCHAR\n"
    path.write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + bytes(range(60)))
    _refuses(path, "spacing")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_a_spacing_that_cannot_be_in_nifti(tmp_path, spacing, packed):
    path = write_volume(make_volume(), tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<3f", data, 80, *spacing)
    path = tmp_path / ("b.nii.gz" if packed else "b.nii")
    path.write_bytes(gzip.compress(data) if packed else data)
    _refuses(path, "spacing")


@pytest.mark.parametrize("spacing", [(1, 1), (0, 1, 1), (1, 1, -2), (1, 1, float("nan")), "abc", 1])
def test_a_spacing_option_that_makes_no_sense(tmp_path, spacing):
    path = write_volume(make_volume(), tmp_path / "a.nrrd")
    with pytest.raises(OptionError, match="spacing"):
        read_volume(path, spacing=spacing)


def test_an_empty_folder_names_its_subfolders(tmp_path):
    _refuses(tmp_path, "no DICOM, TIFF or PNG")
    (tmp_path / "Series 1").mkdir()
    _refuses(tmp_path, "Series 1")


def test_slices_without_spacing(tmp_path):
    for k, pixels in enumerate(make_volume().voxels):
        _save(tmp_path / f"{k}.png", pixels)
    assert "--spacing" in _refuses(tmp_path, "do not record").advice


def test_slices_that_are_unlike(tmp_path):
    voxels = make_volume().voxels
    for k in range(3):
        _save(tmp_path / f"{k}.tif", voxels[k])
    for odd, message in (
        (voxels[0, :4], "unlike the first"),
        (voxels[0].astype(np.uint8), "unlike the first"),
        (np.stack([voxels[0]] * 3, -1), "colour"),
        (voxels[:2], "several pages"),
    ):
        _save(tmp_path / "3.tif", odd, isVector=odd.ndim == 3 and odd.shape[-1] == 3)
        _refuses(tmp_path, message, spacing=(1, 1, 1))
    _save(tmp_path / "3.png", voxels[0])
    _refuses(tmp_path, "different formats", spacing=(1, 1, 1))


def test_one_slice_in_a_folder(tmp_path):
    _save(tmp_path / "only.tif", make_volume().voxels[0])
    _refuses(tmp_path, "single", spacing=(1, 1, 1))
    _refuses(tmp_path / "only.tif", "single", spacing=(1, 1, 1))


def test_a_volume_that_no_file_could_hold_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.nhdr"
    path.write_text(
        "NRRD0004\ntype: double\ndimension: 3\nsizes: 2000000 2000000 100\nspacings: 1 1 1\nendian: little\n"
        "encoding: raw\ndata file: a.raw\n"
    )
    (tmp_path / "a.raw").write_bytes(b"\0" * 100)
    _refuses(path, r"a\.nhdr.*no volume has a size of")


ODD_NAMES = [b"line\nbreak", b"colour\x1b[31m", b"bell\x07", "Zähne 歯".encode(), b"no text \xff\xfe"]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="such names need another file system")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_any_name_is_read_and_no_error_obeys_the_name(tmp_path, name):
    path = tmp_path / os.fsdecode(name + b".nrrd")
    whole = write_volume(make_volume(), tmp_path / "a.nrrd").read_bytes()
    path.write_bytes(whole)
    assert read_volume(path).voxels.shape == (7, 9, 11)
    path.write_bytes(whole[:-100])
    told = str(_refuses(path, "incomplete"))
    told.encode()
    assert not set(told) & set("\x1b\x07")


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="such names need another file system")
def test_a_name_that_is_no_text_is_kept_from_the_libraries_that_it_would_crash(tmp_path):
    folder = tmp_path / os.fsdecode(b"no text \xff")
    folder.mkdir()
    with pytest.raises(OutputError, match="no text"):
        write_volume(make_volume(), folder / "a.nrrd")
    for k, pixels in enumerate(make_volume().voxels):
        _save(tmp_path / f"{k}.png", pixels)
        (tmp_path / f"{k}.png").rename(folder / f"{k}.png")
    _refuses(folder, "no text", spacing=(1, 1, 1))


def test_an_output_that_is_a_link_takes_the_place_of_the_link_and_not_of_its_target(tmp_path):
    target = tmp_path / "precious.nrrd"
    target.write_bytes(b"precious")
    link = tmp_path / "link.nrrd"
    link.symlink_to(target)
    write_volume(make_volume(), link)
    assert target.read_bytes() == b"precious"
    assert not link.is_symlink() and read_volume(link).voxels.shape == (7, 9, 11)
