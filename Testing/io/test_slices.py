"""A pile of pictures is one scan, in order and whole, or refused with what does not belong to it."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.read import probe, read_volume
from CBCTSuperResLib.io.slice_files import read_facts
from CBCTSuperResLib.io.slice_names import ordered

SPACING = (0.1, 0.2, 0.3)
STACK = np.random.default_rng(0).integers(100, 60000, (6, 8, 10)).astype(np.uint16)


def tif(path: Path, pixels: np.ndarray = STACK, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    return path


def slices(folder: Path, names: str | list[str], first: int = 0) -> Path:
    """A slice of STACK for each name; `names` may be a pattern for 6 numbers."""
    names = [names.format(k + first) for k in range(6)] if isinstance(names, str) else names
    for k, name in enumerate(names):
        tif(folder / f"{name}.tif", STACK[k % 6])
    return folder


def refused(path: Path, *words: str, spacing=SPACING) -> str:
    with pytest.raises(InputError) as error:
        read_volume(path, spacing=spacing)
    for word in words:
        assert re.search(word, str(error.value)), str(error.value)
    with pytest.raises(InputError):
        probe(path, spacing=spacing)
    return str(error.value)


def imagej(path: Path, pixels: np.ndarray = STACK, description: str = "", **options) -> Path:
    """As ImageJ saves a stack; `description` is added to its own."""
    count = len(pixels)
    text = f"ImageJ=1.54f\nimages={count}\nslices={count}\nloop=false\n{description}"
    return tif(path, pixels, description=text, **options)


def test_missing_numbers_are_told(tmp_path):
    for lost, words in (
        ({3}, ("numbers 3 are missing", "s002.tif is followed by s004.tif")),
        ({2, 3, 5}, ("numbers 2 to 3, 5 are missing",)),
    ):
        folder = tmp_path / str(len(lost))
        slices(folder, [f"s{k:03d}" for k in range(1, 8) if k not in lost])
        refused(folder, *words)
    refused(slices(tmp_path / "tens", ["a10", "a20", "a30", "a50", "a60"]), "numbers 40 are missing")
    refused(slices(tmp_path / "odd", ["a10", "a20", "a30", "a57", "a60"]), "not evenly spaced", "27, elsewhere 10")


def test_numbers_count_as_people_count(tmp_path):
    for number, names in enumerate(
        (
            [f"Slice {k}" for k in (8, 9, 10, 11, 12, 13)],
            [f"s{k}" for k in (0, 2, 4, 6, 8, 10)],
            [f"z{k}" for k in (-2, -1, 0, 1, 2, 3)],
            [f"z_-{k}" for k in (6, 5, 4, 3, 2, 1)],
            [f"scan-{k:03d}" for k in range(1, 7)],
            [f"z{k:.2f}" for k in (-0.5, -0.25, 0, 0.25, 0.5, 0.75)],
            [f"pos{k:.3f}mm" for k in np.arange(6) * 0.125 + 9.5],
            [f"pos_{k:.2f}" for k in np.arange(6) * 0.125 + 9.5],
            [f"p{k}" for k in (9.8, 9.9, 10, 10.1, 10.2, 10.3)],
            [f"2024-01-0{k % 3 + 1}_run7_{k:04d}" for k in range(6)],
            [f"scan.{k:03d}" for k in range(6)],
            [f"rec0003_{k:02d}_of_06" for k in range(1, 7)],
        )
    ):
        folder = slices(tmp_path / str(number), names)
        shuffled = [folder / f"{name}.tif" for name in sorted(names, key=hash)]
        assert [path.stem for path in ordered(shuffled)] == names
        assert np.array_equal(read_volume(folder, spacing=SPACING).voxels, STACK), names


def test_what_is_called_otherwise_is_named(tmp_path):
    for number, (stranger, words) in enumerate(
        (
            ("overview", "overview.tif is not called like the other 6 slices"),
            ("s003 copy", "s003 copy.tif is not called like"),
            ("s003 (1)", r"s003 \(1\).tif is not called like"),
            ("s003_mask", "s003_mask.tif is not called like"),
            ("rec_spr", "rec_spr.tif"),
        )
    ):
        folder = slices(tmp_path / str(number), "s{:03d}")
        tif(folder / f"{stranger}.tif", STACK[0])
        refused(folder, words, "another folder")


def test_two_piles_are_not_one(tmp_path):
    both = [f"{name}_{k:02d}" for name in ("left", "right") for k in range(6)]
    refused(slices(tmp_path / "a", both), "2 kinds of names", "6 like left_00.tif; 6 like right_00.tif")
    refused(slices(tmp_path / "b", [f"t{t}_z{z}" for t in range(2) for z in range(6)]), "count in 2 places", "channels")
    refused(slices(tmp_path / "c", [f"z{z}_c{c}" for z in range(6) for c in range(2)]), "several channels")
    refused(slices(tmp_path / "d", ["s1", "s01", "s2", "s3"]), "s01.tif and s1.tif have the same number")
    refused(slices(tmp_path / "e", ["front", "middle", "back"]), "no numbers in their names")
    refused(slices(tmp_path / "f", ["z-3.5", "z-3.0", "z-2.5"]), "which way they run is not clear")
    refused(slices(tmp_path / "g", ["a1_b3", "a2_b2", "a3_b1"]), "count in 2 places, and not alike")


def test_the_same_number_with_both_endings_of_tiff_stands_twice(tmp_path):
    folder = slices(tmp_path / "a", "s{}")
    tif(folder / "s3.tiff", STACK[3])
    refused(folder, "s3.tif and s3.tiff have the same number")


def test_neighbours_with_the_same_pixels_are_told(tmp_path):
    folder = slices(tmp_path / "a", "s{}")
    tif(folder / "s3.tif", STACK[2])
    assert "s2.tif and s3.tif hold the same pixels" in read_volume(folder, spacing=SPACING).report["warnings"][0]
    for k in (0, 1):
        tif(folder / f"s{k}.tif", np.zeros_like(STACK[0]))
    tif(folder / "s3.tif", STACK[3])
    assert read_volume(folder, spacing=SPACING).report == {}


def test_numbers_that_go_up_in_larger_steps_are_told(tmp_path):
    for names, words in (
        ([f"s{k:03d}" for k in range(1, 12, 2)], r"steps of 2 \(s001.tif, s003.tif\)"),
        ([f"s{k}" for k in range(60, 0, -10)], "steps of 10"),
        ([f"2024 {k}" for k in range(6)], None),
    ):
        report = read_volume(slices(tmp_path / names[0], names), spacing=SPACING).report
        assert (report == {}) if words is None else re.search(words, report["warnings"][0])


def test_every_layout_of_tiff_gives_the_pixels(tmp_path):
    stack = np.stack([np.add.outer(np.arange(40), np.arange(48)) * 3 + k for k in range(4)]).astype(np.uint16)
    for number, options in enumerate(
        (
            {},
            {"compression": "zlib", "rowsperstrip": 7},
            {"compression": "zlib", "predictor": True},
            {"tile": (16, 16)},
            {"tile": (16, 32), "compression": "zlib"},
            {"bigtiff": True, "byteorder": ">"},
        )
    ):
        for dtype in (np.uint16, np.int16, *([] if "predictor" in options else [np.float32])):
            path = tif(tmp_path / f"{number}.tif", stack.astype(dtype), **options)
            volume = read_volume(path, spacing=SPACING)
            assert volume.voxels.dtype == dtype and volume.report == {}
            assert np.array_equal(volume.voxels, stack), options


def test_lzw_is_decoded_after_the_file_was_checked(tmp_path):
    for k, pixels in enumerate(STACK):
        (tmp_path / f"s{k}.tif").write_bytes(cv2.imencode(".tif", pixels)[1].tobytes())
    with tifffile.TiffFile(tmp_path / "s0.tif") as tiff:
        assert tiff.pages[0].compression == 5
    assert np.array_equal(read_volume(tmp_path, spacing=SPACING).voxels, STACK)


def test_pages_that_are_unlike_are_refused_and_previews_are_left_out(tmp_path):
    for number, (other, words) in enumerate(
        (
            (STACK[0, :4], "Page 7 .* unlike the first: 10 x 4 pixels, uint16, not 10 x 8 pixels, uint16"),
            (STACK[0].astype(np.uint8), "Page 7 .* 10 x 8 pixels, uint8"),
            (np.stack([STACK[0]] * 3, -1), "Page 7 .* of 3 values"),
        )
    ):
        path = tif(tmp_path / f"{number}.tif")
        tif(path, other, append=True, photometric="rgb" if other.ndim == 3 else "minisblack")
        refused(path, words)
    path = tif(tmp_path / "preview.tif")
    tif(path, STACK[0, ::2, ::2], append=True, subfiletype=1)
    volume = read_volume(path, spacing=SPACING)
    assert np.array_equal(volume.voxels, STACK)
    assert volume.report["warnings"] == ["1 previews or masks of the TIFF file were left out."]
    refused(tif(tmp_path / "only.tif", STACK[0], subfiletype=1), "nothing but previews")


def test_pixels_that_are_no_grey_values_are_refused_by_name(tmp_path):
    eight = (STACK >> 8).astype(np.uint8)
    refused(tif(tmp_path / "a.tif", photometric="miniswhite"), "negative .*MinIsWhite")
    refused(
        tif(tmp_path / "b.tif", eight, photometric="palette", colormap=np.zeros((3, 256), np.uint16)), "has a palette"
    )
    refused(tif(tmp_path / "c.tif", STACK > 9), "1 bits a pixel")
    refused(tif(tmp_path / "d.tif", STACK.astype(np.complex64)), "64 bits a pixel, of a kind")
    refused(tif(tmp_path / "e.tif", np.stack([eight] * 3, -1), photometric="rgb"), "colour image")
    refused(tif(tmp_path / "f.tif", compression="lzma"), "compressed by LZMA")


def test_hyperstacks_are_several_volumes(tmp_path):
    both = np.stack([STACK, STACK + 3], 1)
    for axes, count, words in (("ZCYX", 2, "2 channels"), ("TZYX", 6, "6 time points")):
        path = tmp_path / f"{axes}.tif"
        tifffile.imwrite(path, both, imagej=True, metadata={"axes": axes})
        refused(path, f"hyperstack of ImageJ with {words}")
        tifffile.imwrite(
            tmp_path / f"{axes}.ome.tif", both, ome=True, metadata={"axes": axes}, photometric="minisblack"
        )
        refused(tmp_path / f"{axes}.ome.tif", f"{count} {words.split(maxsplit=1)[1]}")
    single = tmp_path / "one.ome.tif"
    tifffile.imwrite(single, STACK, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert np.array_equal(read_volume(single, spacing=SPACING).voxels, STACK)


def test_a_stack_of_imagej_with_a_single_directory_is_whole(tmp_path):
    path = imagej(tmp_path / "a.tif", STACK[:1], byteorder=">")
    path.write_bytes(
        path.read_bytes().replace(b"images=1\nslices=1", b"images=6\nslices=6") + STACK[1:].astype(">u2").tobytes()
    )
    assert np.array_equal(read_volume(path, spacing=SPACING).voxels, STACK)
    path.write_bytes(path.read_bytes()[:-10])
    refused(path, "incomplete", "6 images")
    refused(imagej(tmp_path / "b.tif", STACK, "images=9\nslices=9\n"), "6 of 9 images")


def test_the_calibration_of_imagej_is_applied_or_refused(tmp_path):
    signed = read_volume(imagej(tmp_path / "a.tif", description="cf=0\nc0=-32768.0\nc1=1.0\n"), spacing=SPACING)
    assert signed.voxels.dtype == np.int16
    assert np.array_equal(signed.voxels, STACK.astype(int) - 32768)
    assert "1 x stored + -32768" in signed.report["warnings"][0]
    real = read_volume(imagej(tmp_path / "b.tif", description="cf=0\nc0=-1000\nc1=0.5\nvunit=HU\n"), spacing=SPACING)
    assert np.allclose(real.voxels, STACK * 0.5 - 1000)
    assert probe(tmp_path / "b.tif", spacing=SPACING).dtype == real.voxels.dtype == np.float32
    plain = read_volume(imagej(tmp_path / "c.tif", description="cf=20\n"), spacing=SPACING)
    assert np.array_equal(plain.voxels, STACK)
    refused(imagej(tmp_path / "d.tif", description="cf=1\nc0=1\nc1=2\nc2=3\n"), "calibrated in ImageJ by a curve")
    folder = tmp_path / "e"
    for k, pixels in enumerate(STACK):
        more = "cf=0\nc0=-1000\nc1=2\n" if k < 5 else ""
        imagej(folder / f"s{k}.tif", pixels[None], description=more)
    refused(folder, "s5.tif are calibrated .* unlike")


def test_the_spacing_of_imagej_is_taken_and_checked(tmp_path):
    options = {"resolution": (4, 5), "resolutionunit": 1}
    for unit, factor in (("mm", 1), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("cm", 10)):
        path = imagej(tmp_path / "a.tif", description=f"unit={unit}\nspacing=0.4\n", **options)
        assert read_volume(path).spacing == pytest.approx((0.25 * factor, 0.2 * factor, 0.4 * factor))
    refused(imagej(tmp_path / "a.tif", description="unit=mm\nspacing=0.4\n", **options), "records a spacing of")
    refused(imagej(tmp_path / "a.tif", description="unit=mm\nspacing=-0.4\n", **options), "negative distance")
    for text in ("unit=pixel\nspacing=0.4\n", "spacing=0.4\n"):
        path = imagej(tmp_path / "b.tif", description=text, **options)
        assert read_volume(path, spacing=SPACING).spacing == SPACING
        refused(path, "do not record their distance", spacing=None)
    mixed = imagej(tmp_path / "c.tif", description="unit=mm\nyunit=cm\nzunit=micron\nspacing=400\n", **options)
    assert read_volume(mixed).spacing == pytest.approx((0.25, 2.0, 0.4))
    part = imagej(tmp_path / "d.tif", description="unit=mm\n", **options)  # the edges of pixels, and no distance
    refused(part, "do not record their distance", spacing=None)
    refused(part, r"records a spacing of 0.25 x 0.2 x 0.3 mm, and 0.1 x 0.2 x 0.3 mm are given")
    assert read_volume(part, spacing=(0.25, 0.2, 0.7)).spacing == (0.25, 0.2, 0.7)
    assert read_volume(part, spacing=SPACING, override=True).spacing == SPACING


def test_strips_that_do_not_lie_in_the_file_are_no_black_stripes(tmp_path):
    path = tif(tmp_path / "a.tif", STACK[0], rowsperstrip=2)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        tags = [tiff.pages[0].tags[name] for name in ("StripByteCounts", "StripOffsets", "StripOffsets")]
    for tag, value in zip(tags, (0, 0, 60000), strict=True):
        data = bytearray(whole)
        struct.pack_into({3: "<H", 4: "<I"}[tag.dtype], data, tag.valueoffset, value)
        path.write_bytes(data)
        with pytest.raises(InputError, match="do not lie in the file"):
            read_facts(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match="damaged|incomplete"):
        read_facts(path)
    packed = tif(tmp_path / "b.tif", np.repeat(STACK[:2], 40, 1), compression="zlib")
    with tifffile.TiffFile(packed) as tiff:
        middle = tiff.pages[1].dataoffsets[0] + tiff.pages[1].databytecounts[0] // 2
    data = bytearray(packed.read_bytes())
    data[middle : middle + 50] = bytes(50)
    packed.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_volume(packed, spacing=SPACING)


def test_directories_in_a_circle_end(tmp_path):
    path = tif(tmp_path / "a.tif", STACK[:3])
    with tifffile.TiffFile(path) as tiff:
        places = [page.offset for page in tiff.pages]
    data = bytearray(path.read_bytes())
    (entries,) = struct.unpack_from("<H", data, places[2])
    struct.pack_into("<I", data, places[2] + 2 + 12 * entries, places[1])
    path.write_bytes(data)
    refused(path, "circular")


def test_png_is_read_and_what_is_no_scan_refused_by_name(tmp_path):
    for kind in (np.uint8, np.uint16):
        folder = tmp_path / np.dtype(kind).name
        folder.mkdir()
        stack = (STACK >> (8 if kind == np.uint8 else 0)).astype(kind)
        for k, pixels in enumerate(stack):
            cv2.imwrite(str(folder / f"s{k}.png"), pixels)
        assert np.array_equal(read_volume(folder, spacing=SPACING).voxels, stack)
    path = tmp_path / "a.png"

    def png(columns=4, rows=3, bits=8, colour=0, data=None, extra=b"", laced=0):
        raw = (
            b"".join(b"\0" + bytes((r + c) % 251 for c in range(columns * bits // 8)) for r in range(rows))
            if data is None
            else data
        )
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, laced)),
            (b"IDAT", zlib.compress(raw)),
        ]
        out = b"\x89PNG\r\n\x1a\n"
        for name, body in [chunks[0], *([(extra, b"\0" * 8)] if extra else []), chunks[1], (b"IEND", b"")]:
            out += struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
        path.write_bytes(out)
        return path

    assert read_facts(png()).size == (4, 3)
    for made, words in (
        ({"colour": 3}, "palette"),
        ({"bits": 4}, "4 bits a pixel"),
        ({"colour": 7}, "none of PNG"),
        ({"columns": 1 << 30, "rows": 1 << 30, "data": b""}, "no image has"),
        ({"columns": 40000, "rows": 40000, "data": bytes(100)}, "100 of 1600040000 bytes"),
        ({"data": bytes(1 << 22)}, "more pixels than its header announces"),
        ({"extra": b"acTL"}, "animation"),
    ):
        with pytest.raises(InputError, match=words):
            read_facts(png(**made))
    data = bytearray(png().read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="checksum"):
        read_facts(path)
    path.write_bytes(png().read_bytes()[:-14])
    with pytest.raises(InputError, match="incomplete"):
        read_facts(path)


def test_the_spacing_of_ome_is_taken_and_checked(tmp_path):
    edges = {"PhysicalSizeX": 80.0, "PhysicalSizeY": 0.09, "PhysicalSizeYUnit": "mm", "PhysicalSizeZ": 100.0}
    path = tif(tmp_path / "a.ome.tif", metadata={"axes": "ZYX", **edges})
    assert read_volume(path).spacing == pytest.approx((0.08, 0.09, 0.1))
    refused(path, "records a spacing of 0.08 x 0.09 x 0.1 mm")
    assert read_volume(path, spacing=SPACING, override=True).spacing == SPACING
    del edges["PhysicalSizeZ"]
    part = tif(tmp_path / "b.ome.tif", metadata={"axes": "ZYX", **edges})
    refused(part, "do not record their distance", spacing=None)
    assert read_volume(part, spacing=(0.08, 0.09, 0.5)).spacing == (0.08, 0.09, 0.5)


def test_slices_with_pixel_edges_from_imagej_contradict_another_spacing(tmp_path):
    for k in range(6):
        options = {"resolution": (4, 5), "resolutionunit": 1}
        tif(tmp_path / f"s{k}.tif", STACK[k], description="ImageJ=1.54f\nunit=mm\n", **options)
    refused(tmp_path, "records a spacing of 0.25 x 0.2 x 0.3 mm")
    refused(tmp_path, "do not record their distance", spacing=None)
    assert read_volume(tmp_path, spacing=(0.25, 0.2, 0.3)).spacing == (0.25, 0.2, 0.3)
    tif(tmp_path / "s3.tif", STACK[3], description="ImageJ=1.54f\nunit=cm\n", resolution=(4, 5), resolutionunit=1)
    refused(tmp_path, "s3.tif records other pixel edges")


def test_a_turned_picture_is_refused_by_name(tmp_path):
    for turned in (2, 3, 4, 6):
        path = tif(tmp_path / "a.tif", extratags=[(274, "H", 1, turned, True)])
        refused(path, f"turned or mirrored .Orientation {turned}")
    read_volume(tif(tmp_path / "a.tif", extratags=[(274, "H", 1, 1, True)]), spacing=SPACING)


def test_the_shape_that_tifffile_writes_tells_several_volumes_and_a_single_directory(tmp_path):
    several = np.stack([STACK, STACK])
    refused(tif(tmp_path / "a.tif", several, metadata={}), "2 x 6 images: several volumes")
    whole = read_volume(tif(tmp_path / "b.tif", metadata={}, truncate=True), spacing=SPACING)
    assert np.array_equal(whole.voxels, STACK)
    assert np.array_equal(read_volume(tif(tmp_path / "c.tif", metadata={}), spacing=SPACING).voxels, STACK)
    refused(tif(tmp_path / "d.tif", volumetric=True, tile=(16, 16, 16)), "several slices in each page")


def test_empty_and_two_valued_pictures_are_refused_for_what_they_are(tmp_path):
    slices(tmp_path, "s{}")
    (tmp_path / "s3.tif").write_bytes(b"")
    refused(tmp_path, "s3.tif is an empty file")
    tif(tmp_path / "s3.tif", np.dstack([STACK[3], STACK[3]]), extrasamples=["unassalpha"], planarconfig="contig")
    refused(tmp_path, r"s3.tif has two values in each pixel \(grey and transparency\)")


def test_significant_bits_and_transparency_of_png_change_no_grey_value(tmp_path):
    for k in range(6):
        cv2.imwrite(str(tmp_path / f"s{k}.png"), STACK[k])
        data = (tmp_path / f"s{k}.png").read_bytes()
        parts = b""
        for name, content in ((b"sBIT", b"\x0c"), (b"tRNS", b"\0\x64")):
            parts += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        (tmp_path / f"s{k}.png").write_bytes(data[:33] + parts + data[33:])
    assert np.array_equal(read_volume(tmp_path, spacing=SPACING).voxels, STACK)


def test_pictures_and_archives_that_are_not_read_are_named(tmp_path):
    for name, words in (("s.bmp", "s.bmp.*Save the pictures as 16-bit"), ("s.dcm.gz", r"s\.dcm\.gz.*Unpack \.gz")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"BM")
        refused(folder, words)
