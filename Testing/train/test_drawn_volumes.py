"""Drawn and public volumes, and blocks of them that are coarse in the ways of real scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.acquisition.scanner import ALL_AXES
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train.data import drawn_volumes as drawings
from CBCTSuperResLib.train.data import public
from CBCTSuperResLib.train.data.block_scan import BlockScan
from CBCTSuperResLib.train.data.blocks import Blocks, SimulatedBlocks, UnitVolume
from CBCTSuperResLib.train.data.patches import Augmentation
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options

SIZE = 24
FACTORS = ((1.0, 6.0), (1.0, 4.0), (1.0, 4.0))


def test_every_kind_is_drawn_alike_along_all_axes():
    assert sum(drawings.KINDS.values()) == pytest.approx(1)
    for kind in drawings.KINDS:
        energy = np.zeros(3)
        for seed in range(4):
            image = kind(np.random.default_rng(seed), SIZE)
            assert image.shape == (SIZE,) * 3 and np.isfinite(image).all() and -0.5 < image.min() < image.max() < 2
            energy += [np.mean(np.diff(image, axis=axis) ** 2) for axis in ALL_AXES]
        if kind is not drawings.jaw_cube:  # which has an up and a down
            assert energy.max() < 6 * energy.min(), kind.__name__


def test_a_volume_depends_on_its_seed_alone_and_a_file_of_them_is_drawn_once(tmp_path, monkeypatch):
    path = tmp_path / "new" / "cubes.f16"
    kept = drawings.drawn_volumes(path, 3, SIZE, seed=7)
    again = np.clip(drawings.drawn_volume(np.random.default_rng([7, 2]), SIZE), -0.5, 2)
    assert kept.shape == (3, SIZE, SIZE, SIZE) and np.array_equal(kept[2], again.astype(np.float16))
    assert not np.array_equal(kept[1], kept[2])
    monkeypatch.setattr(drawings, "drawn_volume", lambda rng, size: np.zeros((size,) * 3))
    assert np.array_equal(drawings.drawn_volumes(path, 3, SIZE, seed=7)[2], kept[2])
    assert not drawings.drawn_volumes(path, 3, SIZE, seed=8).any()


def test_public_volumes_are_the_part_that_may_be_trained_on(tmp_path, monkeypatch):
    voxels = np.random.default_rng(0).integers(0, 200, (20, 16, 18)).astype(np.uint8)
    voxels[12:] = 255  # held out
    scan = public.PublicScan(
        "bone", "a bone", "bone.nrrd", "here", "MIT", "", "", (0.02,) * 3, (0, 12), (1, 2), "k >= 12"
    )
    monkeypatch.setattr(
        public, "public_scans", lambda: {"bone": scan, "tooth": scan.__class__(**{**vars(scan), "train_slices": None})}
    )
    monkeypatch.setattr(public.PublicScan, "missing_from", lambda self, folder: None)
    monkeypatch.setattr(public.PublicScan, "read", lambda self, folder: type("Scan", (), {"voxels": voxels}))
    found, told = public.public_volumes(["bone"], tmp_path, 16)
    ((name, volume),) = found.items()  # averaged by two it would be less than half of 16 slices
    assert name == "bone, averaged by 1" and volume.shape == (16, 16, 18)
    low, high = np.percentile(voxels[:12], (0.5, 99.5))
    assert np.allclose(volume[:12], (voxels[:12] - low) / (high - low), atol=1e-3)
    assert np.array_equal(volume[12:], volume[8:12][::-1])  # mirrored, not what is held out
    assert told[0]["slices"] == [0, 12]
    with pytest.raises(OptionError, match="held out"):
        public.public_volumes(["tooth"], tmp_path, 16)


def test_scans_are_coarse_across_slices_or_along_all_axes_or_within_slices_or_each_axis_its_own_or_not_at_all():
    rng = np.random.default_rng(3)
    ways = {
        (1, 0, 0, 0): lambda k, j, i: k > 1 and j == i == 1,
        (0, 1, 0, 0): lambda k, j, i: k == j == i > 1,
        (0, 0, 1, 0): lambda k, j, i: k == 1 and j == i > 1,
        (0, 0, 0, 1): lambda k, j, i: len({k, j, i}) == 3,
        (0, 0, 0, 0, 1): lambda k, j, i: k == j == i == 1,
    }
    for mix, is_meant in ways.items():
        drawn = [BlockScan(FACTORS, mix=mix).draw_factors(rng) for _ in range(20)]
        assert all(is_meant(*factors) for factors in drawn), mix
        assert all(low <= f <= high for factors in drawn for f, (low, high) in zip(factors, FACTORS, strict=True))
    thick = [BlockScan(FACTORS, mix=(3, 0, 1, 0)).draw_factors(rng)[1] == 1 for _ in range(200)]
    assert 0.6 < np.mean(thick) < 0.9


def test_blur_has_a_usual_strength_and_noise_its_own_smoothness_across_slices():
    rng = np.random.default_rng(4)
    blurs = np.array([BlockScan(FACTORS, (0.0, 0.2, 0.8)).draw_blur(rng) for _ in range(300)])
    assert blurs.min() >= 0 and blurs.max() <= 0.8 and 0.28 < blurs.mean() < 0.38
    lags = []
    for _ in range(6):
        noise, level = BlockScan(FACTORS, noise=(0.02, 0.04), noise_smooth=(0.0, 1.0)).draw_noise((16, 32, 32), rng)
        assert noise.std() == pytest.approx(level, rel=1e-3) and 0.02 <= level <= 0.04
        lags.append([np.mean(np.diff(noise, axis=axis) ** 2) / noise.var() for axis in ALL_AXES])
    across, rows, columns = np.array(lags).T
    assert np.allclose(rows, columns, atol=0.15) and np.abs(across - rows).max() > 0.3


def test_a_block_may_have_fewer_slices_than_rows_and_its_targets_lie_in_it():
    # values that say where they are: of a scan without noise the coarse values are their means
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None] / 40, (40, 40, 40))
    scan = BlockScan(FACTORS, blur=(0.0, 0.0), noise=(0.0, 0.0), mix=(1, 0, 0, 0))
    blocks = SimulatedBlocks([UnitVolume("ramp", ramp, None)], Blocks((5, 8, 8)), scan, Augmentation(), targets=9)
    for seed in range(5):
        sample = blocks.sample(0, np.random.default_rng(seed))
        assert sample["LR"].shape == (1, 5, 8, 8) and sample["HR"].shape == (1, 5, 5, 5)
        assert sample["positions"].shape == (3, 5) and np.allclose(np.diff(sample["positions"][1:]), 1)
        coarse, fine, places = sample["LR"][0, :, 0, 0], sample["HR"][0, :, 0, 0], sample["positions"][0]
        inside = (places >= 0) & (places <= 4)
        assert np.allclose(np.interp(places[inside], np.arange(5), coarse), fine[inside], atol=0.02)


def test_targets_that_are_spread_lie_all_over_a_block_and_come_with_the_size_of_a_voxel():
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32)[:, None, None] / 60, (60, 60, 60))
    scan = BlockScan(FACTORS, blur=(0.0, 0.0), noise=(0.0, 0.0), mix=(1, 0, 0, 0))
    blocks = SimulatedBlocks([UnitVolume("r", ramp, None)], Blocks((8, 8, 8)), scan, Augmentation(), 4, spread=True)
    reached = []
    for seed in range(12):
        sample = blocks.sample(0, np.random.default_rng(seed))
        places, step = sample["positions"][0], sample["steps"][0]
        assert sample["HR"].shape == (1, 4, 4, 4) and np.allclose(sample["steps"][1:], 1) and 1 / 6 <= step < 1
        stride = np.diff(places) / step
        assert np.allclose(stride, stride[0], atol=1e-3) and round(stride[0]) == int(8 / step + 1e-9) // 4
        coarse, fine = sample["LR"][0, :, 0, 0], sample["HR"][0, :, 0, 0]
        inside = (places >= 0) & (places <= 7)
        assert np.allclose(np.interp(places[inside], np.arange(8), coarse), fine[inside], atol=0.02)
        reached.append((places[-1] - places[0]) / 8)
    assert min(reached) > 0.5


def test_what_a_network_is_told_may_be_as_wrong_as_estimates_are():
    rng = np.random.default_rng(5)
    even = np.zeros((4, 8, 8), np.float32)
    blur, noise = BlockScan(FACTORS).told(np.array([0.2, 0.3, 0.4]), 0.02, even, rng)
    assert np.allclose(blur, [0.2, 0.3, 0.4]) and np.allclose(noise, 0.02) and blur.dtype == noise.dtype == np.float32
    scan = BlockScan(FACTORS, told_error=0.1)
    told = [scan.told(np.array([0.2, 0.3, 0.4]), 0.02, even, rng) for _ in range(400)]
    for values, true in ((np.array([b for b, _ in told]), [0.2, 0.3, 0.4]), (np.array([n for _, n in told]), [0.02])):
        assert np.allclose(np.std(np.log(values), axis=0), 0.1, atol=0.02)
        assert np.allclose(np.mean(np.log(values), axis=0), np.log(true), atol=0.02)
    edge = np.broadcast_to(np.arange(8) > 3, even.shape).astype(np.float32)  # structure, and no texture
    grain = rng.normal(0, 0.03, even.shape).astype(np.float32)
    for voxels, least, most in ((edge, 0.015, 0.025), (grain, 0.035, 0.055)):
        noises = [float(scan.told(np.zeros(3), 0.02, voxels, rng)[1][0]) for _ in range(200)]
        assert least < np.quantile(noises, 0.9) < most


def test_a_coarse_voxel_lies_in_the_middle_of_its_fine_ones_unlike_the_originals_whose_corners_lie_on_theirs():
    for factor, within in ((2.0, 1e-4), (3.3, 0.35)):  # without blur, a fine voxel counts where its middle lies
        scan = BlockScan(((factor, factor),) * 3, blur=(0.0, 0.0))
        (margin, *_), length = scan.margins([factor] * 3), round(10 * factor)
        ramp = np.arange(-margin, length + margin, dtype=np.float32)
        fine = np.broadcast_to(ramp[:, None, None], (len(ramp),) * 3)
        found = scan.coarse(fine, (10, 10, 10), (factor,) * 3, (0.0,) * 3)[:, 5, 5]
        assert np.allclose(found, (np.arange(10) + 0.5) * length / 10 - 0.5, atol=within)
        assert abs(found[0]) > 0.4 and abs(found[-1] - (length - 1)) > 0.4  # where corners would lie


def test_axes_that_are_not_made_finer_are_mostly_told_no_blur_and_thick_slices_that_of_their_pixels():
    rng = np.random.default_rng(6)
    scan = BlockScan(FACTORS, (0.0, 0.4, 0.8))
    thick = np.array([scan.draw_blur(rng, (4.0, 1.0, 1.0)) for _ in range(400)])
    assert 0.65 < np.mean((thick[:, 1:] == 0).all(1)) < 0.85
    assert 0.4 < np.mean(thick[:, 0] <= 0.2) < 0.75  # half of them the fourth of a blur of 0 to 0.8
    alike = np.array([scan.draw_blur(rng, (2.0, 2.0, 2.0)) for _ in range(400)])
    assert alike.min() > 0 and np.mean(alike <= 0.2) < 0.2


def test_the_any_size_recipe_learns_from_drawn_volumes_alone_if_asked(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [])
    given = [
        f"path.root={tmp_path}",
        "datasets.train.public=[]",
        "datasets.train.procedural=3",
        "datasets.train.procedural_share=null",
        "datasets.train.HR_size=16",
        "datasets.train.n_workers=0",
        "datasets.val.procedural=1",
        "network_G.nf=4",
        "network_G.nb=1",
        "network_G.decoder_features=4",
        "train.block_slices=4",
        "train.precision=float32",
        "train.ss=64",
        "train.lr_warmup_iters=0",
        "train.niter=2",
        "train.val_freq=2",
        "train.val_size=16",
    ]
    done = run.train(read_options(resource("Configurations/any-size.json"), given))
    assert {"psnr", "psnr_cubic", "psnr_x2"} <= set(done.results["best"])
    model = Model.load(export_run(done.folder, tmp_path / "m.safetensors", halo=False, device="cpu"))
    data = model.card.training["data"]
    assert data["images"] == {"procedural": 3} and data["procedural_seed"] == 14
    assert model.card.trained_blur == (0.0, 0.8) and model.card.usual_conditions == (0.425, 0.025)
    assert model.spec.scale_range == FACTORS and model.card.name == "any-size"
    with pytest.raises(InputError, match="path.public_data"):
        run.train(read_options(resource("Configurations/any-size.json"), given[:1]))
