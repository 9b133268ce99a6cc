"""From files to training samples: what is read, paired, refused, and what a sample looks like."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.scan.window import Window
from CBCTSuperResLib.train.data.degradation import imresize
from CBCTSuperResLib.train.data.pictures import Picture
from CBCTSuperResLib.train.data.source import open_images, open_source
from CBCTSuperResLib.train.options_file import read_options
from hypothesis import given
from hypothesis import strategies as st

RANGE = [1000, 61000]


def scan(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """uint16 with every pixel its own value, inside the window."""
    count = int(np.prod(shape))
    values = np.random.default_rng(seed).permutation(count) * ((RANGE[1] - RANGE[0]) // count) + RANGE[0]
    return values.reshape(shape).astype(np.uint16)


def write(folder: Path, **images: np.ndarray) -> Path:
    for name, image in images.items():
        path = folder / f"{name}.tif" if "." not in name else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return folder


def write_volume(path: Path, voxels: np.ndarray, spacing=(0.2, 0.2, 0.2)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Volume(voxels, Grid(voxels.shape[::-1], spacing)).write(path)


def options_for(root: Path, scale: int = 2, **train):
    train = {"mode": "HR", "HR_size": 16, "batch_size": 2, "normalization_range": RANGE, **train}
    train = {"use_flip": False, "use_rot": False, "use_contrast": False, **train}
    return read_options({"name": "t", "scale": scale, "path": {"root": str(root)}, "datasets": {"train": train}})


def opened(root: Path, scale: int = 2, **train):
    options = options_for(root, scale, **train)
    return open_source(options.dataset("train"), options)


def draws(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, n]) for n in range(count)]


def unit(image: np.ndarray) -> np.ndarray:
    return ((image.astype(np.float64) - RANGE[0]) / (RANGE[1] - RANGE[0])).astype(np.float32)


def found_in(part: np.ndarray, whole: np.ndarray) -> tuple[int, int]:
    """Where a part lies in an image whose pixels are all different."""
    (place,) = np.argwhere(np.isclose(whole, part[0, 0], atol=1e-7, rtol=0))
    top, left = place
    assert np.allclose(part, whole[top : top + len(part), left : left + part.shape[1]], atol=1e-6)
    return int(top), int(left)


def test_pairs_of_slices_are_cut_at_the_same_place(tmp_path):
    high = scan((40, 60))
    write(tmp_path / "HR", a=high)
    write(tmp_path / "LR", a=high[::2, ::2])
    source = opened(tmp_path, mode="LRHR", dataroot_HR=str(tmp_path / "HR"), dataroot_LR=str(tmp_path / "LR"))
    batch = source.batch([0] * 8, draws(8))
    assert batch["LR"].shape == (8, 1, 8, 8) and batch["HR"].shape == (8, 1, 16, 16)
    places = {found_in(image[0].numpy(), unit(high)) for image in batch["HR"]}
    assert len(places) > 4
    assert torch.equal(batch["LR"], batch["HR"][..., ::2, ::2])


def test_simulated_pairs_are_parts_of_the_whole_simulated_slice_up_to_the_border(tmp_path):
    high = scan((33, 35))
    write(tmp_path / "Größe mit Leerzeichen", a=high)
    source = opened(tmp_path, dataroot_HR=str(tmp_path / "Größe mit Leerzeichen"))
    whole, tops = np.clip(imresize(unit(high[:32, :34]), 1 / 2), 0, 1), set()
    batch = source.batch([0] * 40, draws(40))
    for low, fine in zip(batch["LR"], batch["HR"], strict=True):
        top, left = found_in(fine[0].numpy(), unit(high))
        tops.add(top)
        assert top % 2 == left % 2 == 0
        assert np.array_equal(low[0].numpy(), whole[top // 2 : top // 2 + 8, left // 2 : left // 2 + 8])
    assert {0, 16} <= tops


def test_volumes_are_cut_along_the_axes_asked_for_and_only_where_allowed(tmp_path):
    voxels = scan((24, 20, 18))
    write_volume(tmp_path / "v.nrrd", voxels, (0.2, 0.3, 0.4))
    source = opened(tmp_path, dataroot_HR=str(tmp_path / "v.nrrd"), axis="all", slices=[4, 22])
    assert len(source) == 18 + 20 + 18
    for number, plane in ((0, voxels[4]), (18, voxels[4:22, 0]), (38, voxels[4:22, :, 0])):
        fine = source.batch([number], draws(1))["HR"][0, 0].numpy()
        found_in(fine, unit(plane))
    assert source.describe()["files"][0]["voxel_size_mm"] == [0.2, 0.4]


def test_a_mapped_file_gives_the_same_samples_as_memory(tmp_path):
    write_volume(tmp_path / "v.nrrd", scan((20, 20, 20)))
    write(tmp_path / "s", a=scan((20, 20)), b=scan((24, 22), 1))
    roots = [str(tmp_path / "v.nrrd"), str(tmp_path / "s")]
    inside, outside = (opened(tmp_path, dataroot_HR=roots, cache_gb=limit) for limit in (1, 0))
    assert "memory" in inside.describe()["memory"] and "file" in outside.describe()["memory"]
    for name in ("LR", "HR"):
        one, other = (s.batch(range(22), draws(22))[name] for s in (inside, outside))
        assert torch.equal(one, other)
    outside.close()
    assert not list(tmp_path.glob("decoded-*"))


@given(
    size=st.tuples(*[st.integers(1, 9)] * 2),
    start=st.tuples(*[st.integers(-6, 8)] * 2),
    extent=st.tuples(*[st.integers(1, 9)] * 2),
)
def test_a_part_that_reaches_beyond_the_border_is_continued_by_mirroring(size, start, extent):
    image = scan((2, *size))
    beyond = np.pad(unit(image), ((0, 0), (32, 32), (32, 32)), mode="symmetric")
    top, left = (n + 32 for n in start)
    part = Picture("p", image, Window(*RANGE)).cut(*start, *extent)
    assert np.allclose(part, beyond[:, top : top + extent[0], left : left + extent[1]], atol=1e-6)


def test_procedural_slices_are_mixed_in_with_their_share(tmp_path):
    write(tmp_path / "HR", a=scan((20, 20)), b=scan((20, 20), 1))
    source = opened(tmp_path, dataroot_HR=str(tmp_path / "HR"), procedural=3, procedural_share=0.25)
    drawn = [name for name in source.names if name.startswith("procedural")]
    assert len(drawn) / len(source) == pytest.approx(0.25, abs=0.03) and len(set(drawn)) == 3
    assert set(source.names) == {"a", "b", *drawn}
    assert source.describe()["images"] == {"scans": 2, "procedural": 3}
    batch = source.batch(range(len(source)), draws(len(source)))
    assert batch["HR"].shape == (len(source), 1, 16, 16)


@pytest.mark.parametrize("degradation", ["bicubic", "physical"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_every_scale_and_degradation_gives_pairs_in_the_window(tmp_path, degradation, scale):
    source = opened(tmp_path, scale, procedural=2, degradation=degradation, HR_size=24, use_contrast=True)
    batch = source.batch([0, 1, 0, 1], draws(4))
    assert batch["HR"].shape == (4, 1, 24, 24) and batch["LR"].shape == (4, 1, 24 // scale, 24 // scale)
    for image in (batch["LR"], batch["HR"]):
        assert image.dtype == torch.float32 and image.is_contiguous()
        assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.01


def test_validation_images_are_whole_and_the_same_every_time(tmp_path):
    high = scan((33, 36))
    write(tmp_path / "HR", a=high)
    val = {"mode": "HR", "dataroot_HR": str(tmp_path / "HR"), "degradation": "physical"}
    train = {"mode": "HR", "HR_size": 16, "batch_size": 2, "normalization_range": RANGE, "procedural": 1}
    options = read_options(
        {"name": "t", "scale": 2, "path": {"root": str(tmp_path)}, "datasets": {"train": train, "val": val}}
    )
    images = open_images(options.dataset("val"), options)
    (pair,) = images
    assert pair.name == "a" and pair.LR.shape == (16, 18) and pair.HR.shape == (32, 36)
    assert np.array_equal(pair.LR, images[0].LR)
    assert np.allclose(pair.HR, unit(high[:32]), atol=1e-6)
    assert (pair.window.lo, pair.window.hi) == tuple(RANGE)


def test_colour_is_refused_unless_it_is_grey(tmp_path):
    grey = scan((20, 20))
    write(tmp_path / "grey", a=np.dstack([grey] * 3))
    assert opened(tmp_path, dataroot_HR=str(tmp_path / "grey")).batch([0], draws(1))["HR"].shape == (1, 1, 16, 16)
    write(tmp_path / "colour", a=scan((20, 20, 3)))
    with pytest.raises(InputError, match="a.tif is a colour image"):
        opened(tmp_path, dataroot_HR=str(tmp_path / "colour"))


def test_images_without_a_partner_are_named(tmp_path):
    image = scan((32, 32))
    write(tmp_path / "HR", a=image, b=image, c=image)
    write(tmp_path / "LR", a=image[::2, ::2], b=image[::2, ::2], d=image[::2, ::2])
    with pytest.raises(InputError, match=r"c\.tif without LR; .*d\.tif without HR"):
        opened(tmp_path, mode="LRHR", dataroot_HR=str(tmp_path / "HR"), dataroot_LR=str(tmp_path / "LR"))


def test_a_pair_of_wrong_sizes_is_named(tmp_path):
    write(tmp_path / "HR", a=scan((32, 32)), b=scan((32, 30)))
    write(tmp_path / "LR", a=scan((16, 16)), b=scan((16, 16)))
    with pytest.raises(InputError, match=r"b\.tif is 32 x 30 and .*b\.tif is 16 x 16: HR is not 2 times LR"):
        opened(tmp_path, mode="LRHR", dataroot_HR=str(tmp_path / "HR"), dataroot_LR=str(tmp_path / "LR"))


@pytest.mark.parametrize("image", [scan((20, 20)) // 400, (scan((20, 20)) // 400).astype(np.uint8)])
def test_eight_bits_are_not_taken_for_sixteen(tmp_path, image):
    write(tmp_path / "HR", a=image)
    with pytest.raises(InputError, match="8.bit"):
        opened(tmp_path, dataroot_HR=str(tmp_path / "HR"))
    source = opened(tmp_path, dataroot_HR=str(tmp_path / "HR"), normalization_range=[0, 255])
    assert source.batch([0], draws(1))["HR"].max() <= 160 / 255


def test_images_smaller_than_a_patch_are_named_and_left_out(tmp_path):
    write(tmp_path / "HR", big=scan((20, 20)), small=scan((20, 15)))
    source = opened(tmp_path, dataroot_HR=str(tmp_path / "HR"))
    assert source.names == ["big"]
    assert "1 of 2 HR images are smaller than HR_size 16: small" in source.warnings[0]
    assert "1 images for batches of 2" in source.warnings[1]
    with pytest.raises(InputError, match="2 of 2 HR images are smaller than HR_size 24"):
        opened(tmp_path, dataroot_HR=str(tmp_path / "HR"), HR_size=24)


def test_the_clipped_share_is_counted_and_told_above_one_percent(tmp_path):
    image = np.full((20, 20), 30000, np.uint16)
    image[0, :8] = 0
    write(tmp_path / "HR", a=image)
    source = opened(tmp_path, dataroot_HR=str(tmp_path / "HR"), batch_size=1)
    assert source.clipped_share == pytest.approx(0.02)
    assert ["2.0% of the grey values" in text for text in source.warnings] == [True]


@pytest.mark.parametrize(
    "low, high, told",
    [
        (0.0, 1.0, "100.0% of the grey values of the {role} images .* outside the window .*nothing could be learnt"),
        (62000, 65000, "100.0% of the grey values of the {role} images"),
        (1001, 1200, "The {role} images .*almost constant"),
    ],
)
@pytest.mark.parametrize("role", ["HR", "LR"])
def test_images_in_which_the_window_leaves_nothing_to_learn_are_refused_at_once(tmp_path, low, high, told, role):
    dull = np.random.default_rng(0).uniform(low, high, (20, 20)).astype(np.float32)
    write(tmp_path / "HR", a=dull if role == "HR" else scan((20, 20)))
    write(tmp_path / "LR", a=dull[:10, :10] if role == "LR" else scan((10, 10)))
    roots = {"dataroot_HR": str(tmp_path / "HR"), "dataroot_LR": str(tmp_path / "LR")}
    with pytest.raises(InputError, match=told.format(role=role)):
        opened(tmp_path, mode="LRHR", **roots)


def test_a_scan_of_which_most_is_air_below_the_window_is_trained_on(tmp_path):
    image = np.zeros((60, 60), np.uint16)
    image[20:40, 20:30] = scan((20, 10))
    write(tmp_path / "HR", a=image)
    assert opened(tmp_path, dataroot_HR=str(tmp_path / "HR")).clipped_share == pytest.approx(0.944, abs=0.01)


def test_real_numbers_without_a_window_must_be_normalised(tmp_path):
    write(tmp_path / "ok", a=np.random.default_rng(0).random((20, 20), np.float32))
    assert opened(tmp_path, dataroot_HR=str(tmp_path / "ok"), normalization_range=None).window.hi == 1
    write(tmp_path / "HU", a=scan((20, 20)).astype(np.float32))
    with pytest.raises(InputError, match="a.tif holds real numbers from .* Give normalization_range"):
        opened(tmp_path, dataroot_HR=str(tmp_path / "HU"), normalization_range=None)


def test_values_that_are_no_numbers_are_named(tmp_path):
    image = np.full((20, 20), 5000, np.float32)
    image[3, 4] = np.nan
    write(tmp_path / "HR", a=image)
    with pytest.raises(InputError, match="a.tif holds values that are not finite"):
        opened(tmp_path, dataroot_HR=str(tmp_path / "HR"))


def test_the_subset_file_chooses_images_and_names_those_that_are_not_there(tmp_path):
    write(tmp_path / "HR", a=scan((20, 20)), b=scan((20, 20)), c=scan((20, 20)))
    subset = tmp_path / "subset.txt"
    subset.write_text("c.tif\n\na\n", encoding="utf-8")
    assert opened(tmp_path, dataroot_HR=str(tmp_path / "HR"), subset_file=str(subset)).names == ["a", "c"]
    subset.write_text("z.tif\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"names images that do not exist: z"):
        opened(tmp_path, dataroot_HR=str(tmp_path / "HR"), subset_file=str(subset))


def test_an_unknown_option_of_the_degradation_is_refused(tmp_path):
    with pytest.raises(OptionError, match="degradation_options has no 'blurr'"):
        opened(tmp_path, procedural=1, degradation="physical", degradation_options={"blurr": 1})
    with pytest.raises(OptionError, match="3 ascending numbers"):
        opened(tmp_path, procedural=1, degradation="physical", degradation_options={"blur": [1, 0.5, 2]})


def test_grey_images_fill_the_channels_of_a_colour_network(tmp_path):
    write(tmp_path / "HR", grey=scan((20, 20)), colour=scan((20, 20, 3)))
    train = {"mode": "HR", "HR_size": 16, "batch_size": 2, "normalization_range": RANGE}
    networks = {"network_G": {"in_nc": 3, "out_nc": 3}, "network_D": {"in_nc": 3}}
    train |= {"dataroot_HR": str(tmp_path / "HR")}
    options = read_options(
        {"name": "t", "scale": 2, "path": {"root": str(tmp_path)}, "datasets": {"train": train}, **networks}
    )
    source = open_source(options.dataset("train"), options)
    batch = source.batch([0, 1], draws(2))
    assert source.names == ["colour", "grey"] and batch["LR"].shape == (2, 3, 8, 8)
    assert not torch.equal(batch["HR"][0, 0], batch["HR"][0, 1])
    assert torch.equal(batch["HR"][1, 0], batch["HR"][1, 1])


def test_the_real_scans_can_be_trained_on_but_not_a_label_map(tmp_path, shared_data):
    roots = [str(shared_data / name) for name in ("tooth.nrrd", "head_anisotropic.nrrd", "ct_dicom")]
    source = opened(tmp_path, dataroot_HR=roots, normalization_range=[0, 1300], axis="all")
    assert len(source) > 500 and source.describe()["files"][0]["voxel_size_mm"] == [1.0, 3.2]
    with pytest.raises(InputError, match="craniofacial_labels.nii.gz: This looks like a label map"):
        opened(tmp_path, dataroot_HR=str(shared_data / "craniofacial_labels.nii.gz"))
