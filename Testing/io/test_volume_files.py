"""NRRD, MetaImage and NIfTI say what they say: read rightly, converted and told, or refused with the true reason."""

from __future__ import annotations

import bz2
import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import InputError, ResourceError
from CBCTSuperResLib.io import volume_files
from CBCTSuperResLib.io.read import probe, read_volume
from CBCTSuperResLib.io.write import write_volume
from helpers import make_volume

VOXELS = (np.arange(60) * 7 - 100).astype("<i2").reshape(3, 4, 5)
DIRECTIONS = "space: left-posterior-superior\nspace directions: (0.3,0,0) (0,0.2,0) (0,0,0.4)\nspace origin: (1,2,3)\n"
META = "DimSize = 5 4 3\nElementType = MET_SHORT\n"


def nrrd(path: Path, more: str = DIRECTIONS, data: bytes = VOXELS.tobytes(), encoding: str = "raw", **change) -> Path:
    """An NRRD file of VOXELS; `change` replaces entries of its header."""
    entries = {"type": "int16", "dimension": "3", "sizes": "5 4 3", "endian": "little", "encoding": encoding, **change}
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in entries.items()) + more + "\n"
    path.write_bytes(header.encode() + data)
    return path


def mha(path: Path, more: str = "ElementSpacing = 0.3 0.2 0.4\n", data: bytes = VOXELS.tobytes(), file="LOCAL") -> Path:
    header = f"ObjectType = Image\nNDims = 3\n{META if 'DimSize' not in more else ''}{more}ElementDataFile = {file}\n"
    path.write_bytes(header.encode() + data)
    return path


def nifti(path: Path, *changes: tuple[str, int, tuple], voxels: np.ndarray = VOXELS) -> Path:
    """A NIfTI-1 file of VOXELS, 0.3 x 0.2 x 0.4 mm, with sform and qform; `changes` are (format, offset, values)."""
    header = bytearray(352)
    kind, bits = {"int16": (4, 16), "float32": (16, 32)}[voxels.dtype.name]
    usual = [("<i", 0, (348,)), ("<8h", 40, (3, 5, 4, 3, 1, 1, 1, 1)), ("<2h", 70, (kind, bits))]
    usual += [("<8f", 76, (1, 0.3, 0.2, 0.4, 0, 0, 0, 0)), ("<f", 108, (352,)), ("<b", 123, (2,))]
    usual += [("<2h", 252, (1, 1)), ("<6f", 256, (0, 0, 0, -1, -2, 3))]
    usual += [("<12f", 280, (0.3, 0, 0, -1, 0, 0.2, 0, -2, 0, 0, 0.4, 3)), ("<4s", 344, (b"n+1",))]
    for form, offset, values in (*usual, *changes):
        struct.pack_into(form, header, offset, *values)
    path.write_bytes(header + voxels.tobytes())
    return path


def refused(path: Path, *words: str) -> str:
    with pytest.raises(InputError) as error:
        read_volume(path)
    for word in words:
        assert re.search(word, str(error.value), re.IGNORECASE), str(error.value)
    return str(error.value)


def warned(path: Path, *words: str):
    """The volume, read with a warning that has these words."""
    volume = read_volume(path)
    told = " ".join(volume.report.get("warnings", ()))
    for word in words:
        assert re.search(word, told, re.IGNORECASE), told
    return volume


def at(volume, index) -> list[float]:
    return np.round(volume.grid.point(index), 5).tolist()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("where", [0.3, 0.6])
def test_a_packed_file_with_zeros_in_the_middle_is_damaged(tmp_path, suffix, where):
    path = write_volume(make_volume((20, 40, 40)), tmp_path / f"a{suffix}", compress=True)
    data = bytearray(path.read_bytes())
    start = int(len(data) * where)
    data[start : start + 2000] = bytes(2000)
    path.write_bytes(data)
    refused(path, "damaged")


def test_only_the_checksum_tells_of_a_changed_bit_in_bytes_that_are_stored_as_they_are(tmp_path):
    packed = zlib.compress(VOXELS.tobytes(), 0)
    for name, data, make in (
        ("a.mha", packed, lambda p, d: mha(p, "ElementSpacing = 1 1 1\nCompressedData = True\n", d)),
        ("a.nrrd", gzip.compress(VOXELS.tobytes(), 0), lambda p, d: nrrd(p, data=d, encoding="gzip")),
        ("b.nrrd", bz2.compress(VOXELS.tobytes()), lambda p, d: nrrd(p, data=d, encoding="bzip2")),
    ):
        assert np.array_equal(read_volume(make(tmp_path / name, data)).voxels, VOXELS)
        changed = bytearray(data)
        changed[40] ^= 1
        refused(make(tmp_path / name, bytes(changed)), "damaged")


def test_every_way_of_packing_gives_the_voxels(tmp_path):
    text = " ".join(map(str, VOXELS.ravel())).encode()
    two_members = gzip.compress(VOXELS.tobytes()[:50]) + gzip.compress(VOXELS.tobytes()[50:])
    for encoding, data in (
        ("raw", VOXELS.tobytes()),
        ("gzip", gzip.compress(VOXELS.tobytes())),
        ("gz", two_members),
        ("bz2", bz2.compress(VOXELS.tobytes())),
        ("ascii", text),
        ("hex", VOXELS.tobytes().hex().encode() + b"\n"),
    ):
        volume = read_volume(nrrd(tmp_path / "a.nrrd", data=data, encoding=encoding))
        assert np.array_equal(volume.voxels, VOXELS), encoding
        assert (volume.spacing, volume.report) == ((0.3, 0.2, 0.4), {})
    assert np.array_equal(
        read_volume(mha(tmp_path / "t.mha", "ElementSpacing = 1 1 1\nBinaryData = False\n", text)).voxels, VOXELS
    )


def test_micrometres_become_millimetres_and_are_told(tmp_path):
    of_space = DIRECTIONS.replace("0.3", "300").replace("0.2", "200").replace("0.4", "400")
    for path in (
        nrrd(tmp_path / "a.nrrd", of_space.replace("(1,2,3)", "(1000,2000,3000)") + 'space units: "um" "um" "um"\n'),
        nrrd(
            tmp_path / "b.nrrd",
            'spacings: 300 200 400\nunits: "microns" "microns" "microns"\naxis mins: 850 1900 2800\n',
        ),
        mha(tmp_path / "a.mha", "ElementSpacing = 300 200 400\nOffset = 1000 2000 3000\nDistanceUnits = um\n"),
        nifti(
            tmp_path / "a.nii",
            ("<b", 123, (3,)),
            ("<8f", 76, (1, 300, 200, 400, 0, 0, 0, 0)),
            ("<6f", 256, (0, 0, 0, -1000, -2000, 3000)),
            ("<12f", 280, (300, 0, 0, -1000, 0, 200, 0, -2000, 0, 0, 400, 3000)),
        ),
    ):
        volume = warned(path, "um|micron", "converted to mm")
        assert np.allclose(volume.spacing, (0.3, 0.2, 0.4)), path
        assert np.allclose(volume.origin, (1, 2, 3)), path
        assert probe(path).spacing == volume.spacing


def test_a_unit_that_is_no_length_is_refused_by_its_name_and_pixels_are_none(tmp_path):
    refused(nrrd(tmp_path / "a.nrrd", DIRECTIONS + 'space units: "furlong" "furlong" "furlong"\n'), "furlong")
    refused(nrrd(tmp_path / "a.nrrd", DIRECTIONS + 'space units: "mm" "um" "mm"\n'), "um")
    warned(nrrd(tmp_path / "a.nrrd", 'spacings: 1 1 1\nunits: "pixel" "pixel" "pixel"\n'), "no spacing")


def test_axis_mins_give_the_place(tmp_path):
    cells = nrrd(tmp_path / "a.nrrd", "axis mins: 10 20 30\naxis maxs: 20 28 36\ncenters: cell cell cell\n")
    nodes = nrrd(tmp_path / "b.nrrd", "axis mins: 10 20 30\naxis maxs: 18 26 34\ncenters: node node node\n")
    assert (at(warned(cells, "axis mins"), (0, 0, 0)), read_volume(cells).spacing) == ([11, 21, 31], (2, 2, 2))
    assert (at(warned(nodes, "axis mins"), (0, 0, 0)), read_volume(nodes).spacing) == ([10, 20, 30], (2, 2, 2))


def test_not_a_number_in_nifti_is_refused_and_not_read_as_zero(tmp_path):
    voxels = VOXELS.astype(np.float32)
    voxels[1, 2, 3] = np.nan
    refused(nifti(tmp_path / "a.nii", voxels=voxels), "1 of 60 voxels are not finite", r"\(3, 2, 1\)")
    refused(nifti(tmp_path / "a.nii", ("<2f", 112, (np.inf, 0.0))), "inf x stored")


def test_slope_and_intercept_of_nifti_follow_the_standard(tmp_path):
    whole = read_volume(nifti(tmp_path / "a.nii", ("<2f", 112, (1, -1000))))
    assert (whole.voxels.dtype, whole.report) == (np.int32, {})
    assert np.array_equal(whole.voxels, VOXELS.astype(int) - 1000)
    real = read_volume(nifti(tmp_path / "a.nii", ("<2f", 112, (0.5, 3))))
    assert real.voxels.dtype == np.float32
    assert np.array_equal(real.voxels, VOXELS * 0.5 + 3)
    none = warned(nifti(tmp_path / "a.nii", ("<2f", 112, (0, -1000))), "scl_slope is 0", "-1000")
    assert np.array_equal(none.voxels, VOXELS)


def test_sform_and_qform_that_disagree_are_told_and_the_sform_is_taken(tmp_path):
    volume = warned(nifti(tmp_path / "a.nii", ("<6f", 256, (0, 0, 0, -6, -2, 3))), "sform and qform", "5 mm")
    assert at(volume, (0, 0, 0)) == [1, 2, 3]
    volume = warned(nifti(tmp_path / "a.nii", ("<2h", 252, (0, 2)), ("<f", 280, (0.6,))), "pixdim", "sform was taken")
    assert volume.spacing == pytest.approx((0.6, 0.2, 0.4))
    turned = read_volume(nifti(tmp_path / "a.nii", ("<2h", 252, (1, 0)), ("<6f", 256, (0, 0, 1, -1, -2, 3))))
    assert (at(turned, (0, 0, 0)), at(turned, (4, 0, 0))) == ([1, 2, 3], [2.2, 2, 3])
    assert "LPS" in warned(nifti(tmp_path / "a.nii", ("<2h", 252, (0, 0))), "does not say where").report["warnings"][0]


def test_sheared_axes_of_nifti_keep_every_voxel_in_its_place(tmp_path):
    path = nifti(tmp_path / "a.nii", ("<2h", 252, (0, 1)), ("<f", 280 + 24, (0.05,)))
    volume = warned(path, "right angles", "sheared grid")
    assert at(volume, (4, 3, 2)) == pytest.approx([1 - 4 * 0.3, 2 - 3 * 0.2 - 2 * 0.05, 3 + 2 * 0.4], abs=1e-5)
    assert probe(path).grid.size == (5, 4, 3)


def test_nifti_2_is_read(tmp_path):
    header = bytearray(544)
    header[:12] = struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n"
    struct.pack_into("<2h", header, 12, 4, 16)
    struct.pack_into("<8q", header, 16, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into("<8d", header, 104, 1, 0.3, 0.2, 0.4, 0, 0, 0, 0)
    struct.pack_into("<q", header, 168, 544)
    struct.pack_into("<2i", header, 344, 0, 1)
    struct.pack_into("<12d", header, 400, 0.3, 0, 0, -1, 0, 0.2, 0, -2, 0, 0, 0.4, 3)
    struct.pack_into("<i", header, 500, 2)
    for path, packed in ((tmp_path / "a.nii", False), (tmp_path / "a.nii.gz", True)):
        data = bytes(header) + VOXELS.tobytes()
        path.write_bytes(gzip.compress(data) if packed else data)
        volume = read_volume(path)
        assert (volume.report, volume.spacing, at(volume, (0, 0, 0))) == ({}, (0.3, 0.2, 0.4), [1, 2, 3])
        assert np.array_equal(volume.voxels, VOXELS)


def test_files_that_are_almost_nifti_are_refused_for_what_they_are(tmp_path):
    refused(nifti(tmp_path / "a.nii", ("<4s", 344, (b"",))), "Analyze")
    refused(nifti(tmp_path / "a.nii", ("<4s", 344, (b"ni1",))), "pair of files")
    refused(nifti(tmp_path / "a.nii", ("<2h", 70, (128, 24))), "3 values in each voxel")
    refused(nifti(tmp_path / "a.nii", ("<2h", 70, (4, 8))), "16 bits, not 8")
    refused(nifti(tmp_path / "a.nii", ("<2h", 70, (99, 8))), "no NIfTI data type 99")
    refused(nifti(tmp_path / "a.nii", ("<6f", 256, (2, 2, 2, 0, 0, 0))), "quaternion")


def test_voxels_in_another_file_are_found_beside_the_header_and_nowhere_else(tmp_path):
    (tmp_path / "inner").mkdir()
    for folder in (tmp_path, tmp_path / "inner"):
        (folder / "data.raw").write_bytes(VOXELS.tobytes())
    inner = tmp_path / "inner"
    for name in ("data.raw", "./data.raw"):
        assert np.array_equal(read_volume(mha(inner / "a.mhd", data=b"", file=name)).voxels, VOXELS)
        assert np.array_equal(
            read_volume(nrrd(inner / "a.nhdr", f"{DIRECTIONS}data file: {name}\n", b"")).voxels, VOXELS
        )
    for name in ("../data.raw", str(tmp_path / "data.raw"), "..\\data.raw", "C:\\data.raw", "/etc/passwd"):
        refused(mha(inner / "a.mhd", data=b"", file=name), "not beside it")
        refused(nrrd(inner / "a.nhdr", f"{DIRECTIONS}data file: {name}\n", b""), "not beside it")
    for name in ("gone.raw", "..", "a.mhd"):
        assert "damaged or incomplete" not in refused(mha(inner / "a.mhd", data=b"", file=name), "a.mhd")
    refused(mha(inner / "a.mhd", data=b"", file="gone.raw"), "no such file", "gone.raw")


def test_voxels_in_a_series_of_files_are_put_together_in_their_order(tmp_path):
    for k, plane in enumerate(VOXELS):
        (tmp_path / f"s{k:02d}.raw").write_bytes(plane.tobytes())
    listed = "s00.raw\ns01.raw\ns02.raw\n"
    for path in (
        mha(tmp_path / "a.mhd", data=listed.encode(), file="LIST"),
        mha(tmp_path / "b.mhd", data=b"", file="s%02d.raw 0 2 1"),
        nrrd(tmp_path / "a.nhdr", f"{DIRECTIONS}data file: LIST\n{listed}", b""),
        nrrd(tmp_path / "b.nhdr", f"{DIRECTIONS}data file: s%02d.raw 0 2 1\n", b""),
    ):
        assert np.array_equal(read_volume(path).voxels, VOXELS), path.name
        if path.suffix == ".mhd":
            assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)
    (tmp_path / "s02.raw").unlink()
    refused(tmp_path / "b.nhdr", "s02.raw", "no such file")
    for series in ("s%02d.raw 0 2 0", "s%02d.raw 0 99999 1", f"s%{'9' * 5000}d.raw 0 2 1", "%d%d.raw 0 2 1"):
        refused(mha(tmp_path / "c.mhd", data=b"", file=series), "unusual kind")
        refused(nrrd(tmp_path / "c.nhdr", f"{DIRECTIONS}data file: {series}\n", b""), "unusual kind")
    for series in (f"s%02d.raw 0 {'9' * 5000} 1", "%d" * 20000):
        refused(mha(tmp_path / "c.mhd", data=b"", file=series), "unusual kind")
        refused(nrrd(tmp_path / "c.nhdr", f"{DIRECTIONS}data file: {series}\n", b""), "no such file")


def test_a_header_that_announces_more_than_the_file_holds_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(volume_files, "allocate", None)
    many = "20000 20000 20000"
    refused(nrrd(tmp_path / "a.nrrd", sizes=many), "incomplete", "16000000000000 bytes")
    refused(nrrd(tmp_path / "a.nrrd", sizes=many, encoding="gzip", data=gzip.compress(bytes(100))), "incomplete")
    refused(nrrd(tmp_path / "a.nrrd", sizes=many, encoding="ascii", data=b"1 2 3"), "incomplete")
    refused(mha(tmp_path / "a.mha", "DimSize = 20000 20000 20000\nElementType = MET_SHORT\n"), "incomplete")
    refused(nifti(tmp_path / "a.nii", ("<8h", 40, (3, 30000, 30000, 30000, 1, 1, 1, 1))), "incomplete")
    refused(nrrd(tmp_path / "a.nrrd", sizes="999999999999 4 3"), "no volume has a size")
    refused(nrrd(tmp_path / "a.nrrd", sizes="-5 4 3"), "no volume has a size")
    path = nrrd(tmp_path / "a.nrrd", sizes=many, encoding="bzip2", data=bz2.compress(bytes(100)))
    with pytest.raises(ResourceError, match="memory"):
        read_volume(path)


def test_a_packed_bomb_is_unpacked_no_further_than_its_header_announces(tmp_path, monkeypatch):
    monkeypatch.setattr(volume_files, "MOST_BEHIND", 1 << 20)
    bomb = gzip.compress(VOXELS.tobytes() + bytes(1 << 24))
    refused(nrrd(tmp_path / "a.nrrd", data=bomb, encoding="gzip"), "far more than its header announces")


def test_bytes_that_the_header_does_not_account_for_are_told(tmp_path):
    more = VOXELS.tobytes() + bytes(40)
    for path in (nrrd(tmp_path / "a.nrrd", data=more), mha(tmp_path / "a.mha", data=more)):
        assert np.array_equal(warned(path, "40 bytes behind").voxels, VOXELS)
    at_the_end = nrrd(tmp_path / "b.nrrd", DIRECTIONS + "byte skip: -1\n", bytes(33) + VOXELS.tobytes())
    assert np.array_equal(read_volume(at_the_end).voxels, VOXELS)
    behind_lines = nrrd(
        tmp_path / "c.nrrd", DIRECTIONS + "line skip: 2\nbyte skip: 3\n", b"a\nb\nxyz" + VOXELS.tobytes()
    )
    assert np.array_equal(read_volume(behind_lines).voxels, VOXELS)


def test_a_header_that_contradicts_itself_is_refused_with_the_entry(tmp_path):
    for more, word in (
        (DIRECTIONS + "sizes: 5 4 2\n", "sizes twice"),
        (DIRECTIONS.replace(" (0,0,0.4)", ""), "2 space directions for 3"),
        (DIRECTIONS.replace("(0,0,0.4)", "(0,0.2,0)"), "do not span space"),
        (DIRECTIONS.replace("(1,2,3)", "(1,nan,3)"), "origin"),
        ("spacings: 1 1\n", "2 spacings for 3"),
        (DIRECTIONS.replace("left-posterior", "up-down"), "up-down"),
        ("no colon\n", "no colon"),
    ):
        refused(nrrd(tmp_path / "a.nrrd", more), word)
    for change, word in (
        ({"type": "int17"}, "int17"),
        ({"endian": "middle"}, "middle"),
        ({"encoding": "lzma"}, "lzma"),
        ({"dimension": "2"}, "3 entries instead of 2"),
        ({"sizes": "5 4 three"}, "not whole numbers"),
    ):
        refused(nrrd(tmp_path / "a.nrrd", **change), word)
    for more, word in (
        ("DimSize = 5 4\nElementType = MET_SHORT\n", "2 entries instead of 3"),
        ("DimSize = 5 4 3\nElementType = MET_SHORT\nDimSize = 5 4 2\n", "twice"),
        ("DimSize = 5 4 3\nElementType = MET_STRING\n", "MET_STRING"),
        ("TransformMatrix = 1 0 0 0 1 0\n", "6 entries instead of 9"),
        ("HeaderSize = -7\n", "HeaderSize"),
        ("CompressedData = perhaps\n", "neither True nor False"),
    ):
        refused(mha(tmp_path / "a.mha", more), word)
    assert "\n" not in refused(nrrd(tmp_path / "a.nrrd", type="int\x1b[31m\x07"), "not one of NRRD")


def test_the_function_to_intensity_of_metaimage_is_applied_and_told(tmp_path):
    more = "ElementSpacing = 1 1 1\nElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = -7.5\n"
    assert np.array_equal(warned(mha(tmp_path / "a.mha", more), "2 x stored").voxels, VOXELS * 2.0 - 7.5)


def test_simpleitk_reads_the_same_from_what_it_understands(tmp_path):
    """Whatever we say of space and type is what the library says that Slicer uses."""
    turned = DIRECTIONS.replace("(0,0.2,0)", "(0.1,0,-0.2)").replace("(0,0,0.4)", "(0,0.4,0)")
    files = [
        nrrd(tmp_path / f"{n}.nrrd", turned.replace("left-posterior-superior", space))
        for n, space in enumerate(("right-anterior-superior", "left-anterior-superior", "scanner-xyz", "RAS", "LPS"))
    ]
    files += [
        mha(tmp_path / "a.mha", "TransformMatrix = 0 1 0 0 0 1 1 0 0\nPosition = 4 5 6\nElementSize = 1 2 3\n"),
        mha(tmp_path / "b.mha", "ElementSpacing = 1 2 3\nHeaderSize = -1\nBinaryDataByteOrderMSB = False\n"),
        nifti(tmp_path / "a.nii", ("<2h", 252, (1, 0)), ("<6f", 256, (0.5, 0.5, 0.5, -1, -2, 3))),
        nifti(tmp_path / "b.nii", ("<2h", 252, (1, 0)), ("<8f", 76, (-1, 0.3, 0.2, 0.4, 0, 0, 0, 0))),
        nifti(tmp_path / "c.nii", ("<2h", 252, (0, 0))),
        *(
            write_volume(make_volume(left_handed=True), tmp_path / f"w{n}{suffix}")
            for n, suffix in enumerate((".nrrd", ".mha", ".nii", ".nii.gz"))
        ),
    ]
    for path in files:
        theirs, ours = sitk.ReadImage(str(path)), read_volume(path)
        assert np.array_equal(ours.voxels, sitk.GetArrayFromImage(theirs)), path.name
        for index in ((0, 0, 0), (4, 0, 0), (0, 3, 0), (0, 0, 2)):
            there = theirs.TransformIndexToPhysicalPoint(index)
            assert np.allclose(ours.grid.point(index), there, atol=1e-5), (path.name, index)


def test_the_sform_is_not_taken_where_it_cannot_be(tmp_path):
    empty = ("<12f", 280, (0,) * 12)
    volume = warned(nifti(tmp_path / "a.nii", empty), "sform holds only zeros")
    assert at(volume, (0, 0, 0)) == [1, 2, 3] and volume.spacing == pytest.approx((0.3, 0.2, 0.4))
    volume = warned(nifti(tmp_path / "b.nii", empty, ("<2h", 252, (0, 1))), "only zeros", "does not say where")
    assert volume.spacing == pytest.approx((0.3, 0.2, 0.4))
    volume = warned(nifti(tmp_path / "c.nii", ("<f", 280, (np.nan,))), "sform cannot be")
    assert at(volume, (0, 0, 0)) == [1, 2, 3]


def test_whether_nifti_is_packed_is_told_by_the_file_and_not_by_its_name(tmp_path):
    plain = nifti(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("b.nii.gz", "c.nii"):
        assert np.array_equal(read_volume(tmp_path / name).voxels, VOXELS)


def test_micrometres_are_known_in_every_encoding_of_text(tmp_path):
    for number, encoding in enumerate(("utf-8", "latin-1")):
        path = nrrd(tmp_path / f"{number}.nrrd", DIRECTIONS)
        units = 'space units: "\u00b5m" "\u00b5m" "\u00b5m"\n'.encode(encoding)
        path.write_bytes(path.read_bytes().replace(b"space origin", units + b"space origin", 1))
        assert warned(path, "converted to mm").spacing == pytest.approx((0.3e-3, 0.2e-3, 0.4e-3))
    mha(tmp_path / "a.mha", "ElementSpacing = 0.3 0.2 0.4\nDistanceUnits = ?\n")  # MetaIO's word for none
    assert read_volume(tmp_path / "a.mha").spacing == pytest.approx((0.3, 0.2, 0.4))


def test_voxels_in_several_files_of_two_or_three_dimensions_are_put_together(tmp_path):
    for k in range(3):
        (tmp_path / f"s{k}.raw").write_bytes(VOXELS[k].tobytes())
    named = "".join(f"s{k}.raw\n" for k in range(3)).rstrip("\n")
    for text in (f"LIST 2\n{named}", f"LIST 3\n{named}", "s%d.raw 0 2 1 2", "s%d.raw 0 2 1 3"):
        path = nrrd(tmp_path / "a.nhdr", f"{DIRECTIONS}data file: {text}\n", b"")
        assert np.array_equal(read_volume(path).voxels, VOXELS)
    refused(nrrd(tmp_path / "a.nhdr", f"{DIRECTIONS}data file: LIST 1\n{named}\n", b""), "unusual kind")


def test_a_file_beside_the_header_is_found_in_other_letters_where_there_is_one(tmp_path):
    (tmp_path / "SCAN.RAW").write_bytes(VOXELS.tobytes())
    path = mha(tmp_path / "a.mhd", data=b"", file="scan.raw")
    assert np.array_equal(read_volume(path).voxels, VOXELS)
    (tmp_path / "Scan.raw").write_bytes(VOXELS.tobytes())
    refused(path, "no such file")


def test_long_numbers_of_eight_bytes_are_not_read_as_twice_as_many_of_four(tmp_path):
    more = "DimSize = 5 4 3\nElementType = MET_LONG\nElementSpacing = 1 1 1\n"
    refused(mha(tmp_path / "a.mha", more, VOXELS.astype("<i8").tobytes()), "MET_LONG, which has 4 bytes.*holds 8")
    assert np.array_equal(read_volume(mha(tmp_path / "b.mha", more, VOXELS.astype("<i4").tobytes())).voxels, VOXELS)


def test_what_is_no_volume_file_is_refused_for_what_it_is(tmp_path):
    for name, words in (
        ("a.zip", "archive.*Unpack"),
        ("a.hdr", "one of a pair of files"),
        ("a.img", "one of a pair of files"),
        ("a.png", "a single picture"),
        ("a.npy", "an array without its grid"),
    ):
        (tmp_path / name).write_bytes(b"something")
        refused(tmp_path / name, words)
