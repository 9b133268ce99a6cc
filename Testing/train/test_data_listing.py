"""Which files a data set consists of: order, pairs, volumes, DICOM, patients; and whole images to measure on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError, OptionError, ResourceError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.train.data import decode as cache
from CBCTSuperResLib.train.data import source as sources
from CBCTSuperResLib.train.data.decode import THREADS, done_ahead
from CBCTSuperResLib.train.data.degradation import imresize
from CBCTSuperResLib.train.data.files import Subset, list_entries, pair_entries, patient_of
from CBCTSuperResLib.train.data.source import open_images, open_source
from CBCTSuperResLib.train.options_file import read_options
from helpers import make_grid, write_dicom_series

WINDOW = [0, 60000]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 60000, shape, np.uint16)


def save(path, image: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def save_volume(path, voxels: np.ndarray):
    return Volume(voxels, Grid(voxels.shape[::-1])).write(path)


def read(root, train: dict | None = None, **others):
    train = {
        "mode": "HR",
        "HR_size": 16,
        "batch_size": 2,
        "normalization_range": WINDOW,
        **(train or {"procedural": 2}),
    }
    others = {name: {"mode": "HR", **block} for name, block in others.items()}
    return read_options({"name": "t", "scale": 2, "path": {"root": str(root)}, "datasets": {"train": train, **others}})


def images_of(root, block: dict, key: str = "val"):
    options = read(root, **{key: block})
    return open_images(options.dataset(key), options)


def test_files_are_found_recursively_and_in_the_order_of_their_names(tmp_path):
    for name in ("b/s1.tif", "a/s2.png", "a/s10.tif", "a/.hidden.tif", "z.txt"):
        save(tmp_path / name, noise(8, 8)) if not name.endswith("txt") else (tmp_path / name).write_text("")
    save_volume(tmp_path / "a" / "v.nii.gz", noise(3, 4, 5))
    assert [e.name for e in list_entries(tmp_path)] == ["a/s10", "a/s2", "a/v", "b/s1"]
    assert [e.is_volume for e in list_entries(tmp_path)] == [False, False, True, False]


def test_a_dicom_folder_is_a_volume_wherever_it_lies(tmp_path):
    voxels = noise(5, 20, 18).astype(np.int16)
    write_dicom_series(tmp_path / "patients" / "one", voxels, make_grid((18, 20, 5), oblique=False))
    (entry,) = list_entries(tmp_path / "patients")
    assert entry.is_volume and entry.name == "one"
    options = read(tmp_path, {"dataroot_HR": str(tmp_path / "patients"), "normalization_range": None})
    source = open_source(options.dataset("train"), options)
    assert len(source) == 5 and (source.window.lo, source.window.hi) == (-32768, 32767)


def test_nothing_to_find_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        list_entries(tmp_path / "empty")
    with pytest.raises(InputError, match="does not exist"):
        list_entries(tmp_path / "absent")


def test_where_stems_repeat_the_folders_decide(tmp_path):
    for side in ("LR", "HR"):
        for patient in ("p1", "p2"):
            save(tmp_path / side / patient / "s1.tif", noise(8, 8))
    pairs = pair_entries([tmp_path / "LR"], [tmp_path / "HR"], Subset(None))
    assert [(low.name, high.name) for low, high in pairs] == [("p1/s1", "p1/s1"), ("p2/s1", "p2/s1")]


def test_stems_pair_files_of_other_folders_and_formats(tmp_path):
    for name in ("LR/x/a.png", "LR/b.tif", "HR/a.tif", "HR/y/b.png"):
        save(tmp_path / name, noise(8, 8))
    pairs = pair_entries([tmp_path / "LR"], [tmp_path / "HR"], Subset(None))
    assert [(low.name, high.name) for low, high in pairs] == [("x/a", "a"), ("b", "y/b")]


def test_a_subset_chooses_pairs_and_may_span_several_folders(tmp_path):
    for name in "abc":
        for side, size in (("LR", 10), ("HR", 20)):
            save(tmp_path / side / "one" / f"{name}.tif", noise(size, size))
            save(tmp_path / side / "two" / f"{name * 2}.tif", noise(size, size))
    (tmp_path / "subset.txt").write_text("b.tif\ncc\n", encoding="utf-8")
    roots = {f"dataroot_{side}": [str(tmp_path / side / folder) for folder in ("one", "two")] for side in ("LR", "HR")}
    options = read(tmp_path, {"mode": "LRHR", "subset_file": str(tmp_path / "subset.txt"), **roots})
    assert open_source(options.dataset("train"), options).names == ["b", "cc"]


def test_an_empty_subset_is_said(tmp_path):
    save(tmp_path / "s" / "a.tif", noise(20, 20))
    (tmp_path / "subset.txt").write_text("\n", encoding="utf-8")
    options = read(tmp_path, {"dataroot_HR": str(tmp_path / "s"), "subset_file": str(tmp_path / "subset.txt")})
    with pytest.raises(InputError, match="names no images"):
        open_source(options.dataset("train"), options)


def test_images_of_one_name_in_several_folders_get_names_of_their_own(tmp_path):
    for folder in ("one", "two"):
        save(tmp_path / folder / "a.tif", noise(20, 20))
    found = images_of(tmp_path, {"dataroot_HR": [str(tmp_path / "one"), str(tmp_path / "two")]})
    assert [pair.name for pair in found] == ["a", "a (2)"]


def test_two_single_volumes_are_a_pair_whatever_their_names(tmp_path):
    high = noise(4, 32, 34)
    low, fine = save_volume(tmp_path / "coarse.nrrd", high[:, ::2, ::2]), save_volume(tmp_path / "fine.mha", high)
    options = read(tmp_path, {"mode": "LRHR", "dataroot_LR": str(low), "dataroot_HR": str(fine)})
    source = open_source(options.dataset("train"), options)
    batch = source.batch([3], [np.random.default_rng(0)])
    assert len(source) == 4 and batch["LR"].shape == (1, 1, 8, 8)
    assert [facts["role"] for facts in source.describe()["files"]] == ["LR", "HR"]


def test_volumes_that_differ_in_slices_are_named_with_the_axis(tmp_path):
    low, fine = save_volume(tmp_path / "l.nrrd", noise(4, 16, 16)), save_volume(tmp_path / "h.nrrd", noise(8, 32, 32))
    options = read(tmp_path, {"mode": "LRHR", "dataroot_LR": str(low), "dataroot_HR": str(fine)})
    with pytest.raises(InputError, match="l.nrrd has 4 slices and .*h.nrrd has 8.*axis is 'axial'"):
        open_source(options.dataset("train"), options)


def test_a_damaged_volume_is_named(tmp_path):
    path = save_volume(tmp_path / "v.nrrd", noise(4, 20, 20))
    path.write_bytes(path.read_bytes()[:-400])
    options = read(tmp_path, {"dataroot_HR": str(path)})
    with pytest.raises(InputError, match=r"v\.nrrd"):
        open_source(options.dataset("train"), options)


def test_slices_beyond_the_volume_are_refused(tmp_path):
    path = save_volume(tmp_path / "v.nrrd", noise(4, 20, 20))
    options = read(tmp_path, {"dataroot_HR": str(path), "slices": [4, 9]})
    with pytest.raises(OptionError, match=r"v\.nrrd has 4 slices"):
        open_source(options.dataset("train"), options)


def test_images_of_different_types_need_a_window(tmp_path):
    save(tmp_path / "s" / "a.tif", noise(20, 20))
    save(tmp_path / "s" / "b.tif", (noise(20, 20) // 256).astype(np.uint8))
    options = read(tmp_path, {"dataroot_HR": str(tmp_path / "s"), "normalization_range": None})
    with pytest.raises(OptionError, match="different types: uint16, uint8"):
        open_source(options.dataset("train"), options)


@pytest.mark.parametrize("rest", [0, 1])
def test_pairs_whose_hr_has_a_rest_are_cropped_to_the_scale(tmp_path, rest):
    save(tmp_path / "LR" / "a.tif", noise(10, 11))
    save(tmp_path / "HR" / "a.tif", noise(20 + rest, 22 + rest))
    block = {"mode": "LRHR", "dataroot_LR": str(tmp_path / "LR"), "dataroot_HR": str(tmp_path / "HR")}
    (pair,) = images_of(tmp_path, block)
    assert pair.LR.shape == (10, 11) and pair.HR.shape == (20, 22)


def test_a_validation_takes_slices_evenly_spread_and_a_test_takes_all(tmp_path):
    path = save_volume(tmp_path / "v.nrrd", noise(61, 20, 20))
    chosen = images_of(tmp_path, {"dataroot_HR": str(path)})
    assert [p.name for p in chosen] == [f"v_axial{round(4 * n):04d}" for n in range(16)]
    assert len(images_of(tmp_path, {"dataroot_HR": str(path)}, key="test_1")) == 61


def test_simulated_validation_images_are_the_reduction_of_the_whole_slice(tmp_path):
    save(tmp_path / "s" / "a.tif", noise(20, 24))
    (pair,) = images_of(tmp_path, {"dataroot_HR": str(tmp_path / "s")})
    assert np.array_equal(pair.LR, np.clip(imresize(pair.HR, 1 / 2), 0, 1))


def test_a_test_may_have_lr_alone(tmp_path):
    save(tmp_path / "LR" / "a.tif", noise(10, 11))
    (pair,) = images_of(tmp_path, {"mode": "LRHR", "dataroot_LR": str(tmp_path / "LR")}, key="test_1")
    assert pair.HR is None and pair.LR.shape == (10, 11) and pair.name == "a"


def test_procedural_slices_can_be_measured_on(tmp_path):
    found = images_of(tmp_path, {"procedural": 3, "procedural_seed": 8})
    assert len(found) == 3 and found[0].HR.shape == (32, 32) and found[0].LR.shape == (16, 16)
    assert found[0].HR.min() >= 0 and found[0].HR.max() <= 1


def test_public_scans_are_mixed_with_the_users_own(tmp_path, monkeypatch):
    class Slices(list):
        names = ["bone, k 1", "bone, k 2"]

        def __init__(self, names, folder, size, slices):
            super().__init__(np.full((17, 20), level, np.float32) for level in (0.25, 0.5))

        def slab(self, number):
            return [self[number]]

        def describe(self):
            return [{"name": "bone"}]

    monkeypatch.setattr(sources, "PublicSlices", Slices)
    save(tmp_path / "s" / "a.tif", noise(20, 20))
    options = read(tmp_path, {"dataroot_HR": str(tmp_path / "s"), "public": ["bone"], "procedural": 3})
    source = open_source(options.dataset("train"), options)
    assert source.describe()["images"] == {"scans": 1, "public": 2, "procedural": 3}
    assert source.describe()["public"] == [{"name": "bone"}]
    number = list(source.names).index("bone, k 2")
    assert float(source.batch([number], [np.random.default_rng(0)])["HR"].std()) == 0


def test_a_full_disk_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    path = save_volume(tmp_path / "v.nrrd", noise(4, 20, 20))
    monkeypatch.setattr("CBCTSuperResLib.io.write.free_disk_bytes", lambda folder: 10)
    options = read(tmp_path, {"dataroot_HR": str(path), "cache_gb": 0})
    with pytest.raises(ResourceError, match="free"):
        open_source(options.dataset("train"), options)


def test_processes_of_a_machine_share_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "available_memory", lambda: 4000)
    assert not cache.PixelCache(900, None, tmp_path).is_file
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cache.PixelCache(900, None, tmp_path).is_file


def test_nobody_is_both_trained_on_and_measured(tmp_path):
    for name in ("train/p1_s1.tif", "train/p2_s1.tif", "val/p2_s2.tif", "other/p3_s1.tif"):
        save(tmp_path / name, noise(20, 20))
    train = {"dataroot_HR": str(tmp_path / "train"), "patient_pattern": r"/(p\d+)_s\d+"}
    shared = read(tmp_path, train, val={"dataroot_HR": str(tmp_path / "val")})
    with pytest.raises(InputError, match="share patients: p2"):
        open_source(shared.dataset("train"), shared)
    apart = read(tmp_path, train, val={"dataroot_HR": str(tmp_path / "other")})
    assert len(open_source(apart.dataset("train"), apart)) == 2


def test_a_pattern_that_does_not_fit_is_told_with_the_file(tmp_path):
    assert patient_of(tmp_path / "P07" / "a.tif", r"P\d+") == "P07"
    with pytest.raises(OptionError, match="finds no patient in .*a.tif"):
        patient_of(tmp_path / "a.tif", r"/(P\d+)/")
    with pytest.raises(OptionError, match="no regular expression"):
        patient_of(tmp_path / "a.tif", r"(P")


def test_files_are_decoded_ahead_in_order_and_never_many_at_a_time():
    begun = []
    results = done_ahead(lambda n: begun.append(n) or n * n, range(100))
    assert next(results) == 0 and len(begun) <= 2 * THREADS + 1
    assert list(results) == [n * n for n in range(1, 100)]


def test_what_decoding_ahead_raises_is_raised_in_its_turn():
    results = done_ahead(lambda n: 1 // (3 - n), range(100))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
