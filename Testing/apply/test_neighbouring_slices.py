"""Networks that see neighbouring slices: what they are given is what one would stack by hand, wherever they run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Options, super_resolve
from CBCTSuperResLib.acquisition.scanner import Acquisition
from CBCTSuperResLib.apply.calibration import calibrate
from CBCTSuperResLib.apply.ways import slab_around
from CBCTSuperResLib.core.errors import InputError, ModelError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.models.self_check import probe
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.blocks import gradient_map
from CBCTSuperResLib.networks.spec import NetworkSpec
from CBCTSuperResLib.train.data.drawn_slices import averaged_in_depth, training_slab
from CBCTSuperResLib.train.data.files import list_entries, neighbours_of, planes_of
from CBCTSuperResLib.train.data.source import open_images, open_source
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.validation import Enlarger, Validator
from grading.methods import model_method
from stub_networks import stub_model, tiny_network

RANGE = (0, 1000)
PLAIN = Options(window=RANGE, blank="none", smooth=0, dtype="float32")


def five_slices(network: str = "unetspsr", seed: int = 0) -> torch.nn.Module:
    if network == "unetspsr":
        built = tiny_network(seed, in_nc=5, slices=2)
        with torch.no_grad():  # an output that is seldom clipped
            built.fusion_out.weight.mul_(20)
            built.fusion_out.bias.fill_(0)
            built.fusion_out.bias.fill_(0.5 - float(built(torch.full((1, 5, 16, 16), 0.5))["sr"].mean()))
        return built
    torch.manual_seed(seed)
    built = build_network("residual", nf=6, nb=2, in_nc=5, slices=2).eval()
    for layer in built.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    return built


def noise(shape=(6, 22, 26), seed: int = 0) -> Volume:
    voxels = np.random.default_rng(seed).uniform(0, 1000, shape).astype(np.float32)
    return Volume(voxels, Grid(shape[::-1], (0.25,) * 3))


def by_hand(network: torch.nn.Module, voxels: np.ndarray) -> np.ndarray:
    """Every slice with two neighbours on either side, or twice those of one side at the ends, in grey values."""
    unit, count = torch.from_numpy(voxels / np.float32(1000)), len(voxels)
    around = []
    for k in range(count):
        wanted = [(k + n, k - n, k) for n in (-2, -1, 0, 1, 2)]
        around.append([next(p for p in places if 0 <= p < count) for places in wanted])
    slabs = [unit[places] for places in around]
    with torch.inference_mode():
        return 1000 * network(torch.stack(slabs))["sr"][:, 0].numpy()


def clipped(result: np.ndarray) -> np.ndarray:
    return np.clip(result, -20, 1020)  # as `finish` does for an input within the window


@pytest.mark.parametrize("name", ["unetspsr", "residual"])
def test_axial_slices_are_seen_with_their_neighbours_also_at_the_ends(name):
    network, volume = five_slices(name), noise()
    result = super_resolve(volume, stub_model(network, context=20), PLAIN)
    np.testing.assert_allclose(result.voxels, clipped(by_hand(network, volume.voxels)), atol=1e-2)


def test_a_roi_is_a_crop_of_the_whole_along_the_slices_too():
    model, volume = stub_model(five_slices(), context=20), noise((9, 22, 26))
    whole = super_resolve(volume, model, PLAIN)
    part = super_resolve(volume, model, replace(PLAIN, roi=((4, 20), (2, 17), (3, 6))))
    np.testing.assert_allclose(part.voxels, whole.voxels[3:6, 4:34, 8:40], atol=1e-2)


def test_tiles_leave_no_seam():
    model, volume = stub_model(five_slices("residual"), context=6), noise((3, 70, 64))
    whole, tiled = (super_resolve(volume, model, replace(PLAIN, tile=tile)) for tile in (0, 16))
    np.testing.assert_allclose(tiled.voxels, whole.voxels, atol=1e-2)


def test_an_ensemble_of_positions_takes_the_neighbours_along():
    network, volume = five_slices(), noise((3, 12, 14))
    single = by_hand(network, volume.voxels[:, ::-1, ::-1].copy())[:, ::-1, ::-1]
    expected = (by_hand(network, volume.voxels) + single) / 2
    result = super_resolve(volume, stub_model(network, context=20), replace(PLAIN, ensemble=2))
    np.testing.assert_allclose(result.voxels, clipped(expected), atol=1e-2)


def test_a_slice_without_data_is_no_neighbour():
    network, volume = five_slices(), noise((5, 22, 26))
    holed = volume.voxels.copy()
    holed[4] = 0
    blank = super_resolve(Volume(holed, volume.grid), stub_model(network, context=20), replace(PLAIN, blank="0"))
    shorter = clipped(by_hand(network, holed[:4]))  # the hole is like the end of the volume
    np.testing.assert_allclose(blank.voxels[:4], shorter, atol=1e-2)
    assert (blank.voxels[4] == 0).all()


@pytest.mark.parametrize("between, near", [(0.1, True), (0.3, True), (0.4, False)])
def test_slices_that_are_far_apart_are_no_neighbours(between, near):
    network, volume = five_slices("residual"), noise()
    scan = Volume(volume.voxels, Grid(volume.grid.size, (0.25, 0.25, between)))
    result = super_resolve(scan, stub_model(network, context=20), PLAIN)
    alone = np.concatenate([by_hand(network, image[None]) for image in volume.voxels])
    expected = by_hand(network, volume.voxels) if near else alone
    np.testing.assert_allclose(result.voxels, clipped(expected), atol=1e-2)
    assert any("without its neighbours" in note for note in result.report["notes"]) != near


def test_isotropic_planes_are_seen_with_their_neighbours_across_each_plane():
    """A network whose answer is the mean of the outer neighbours, enlarged: three planes see three directions."""
    volume = noise((12, 12, 12), seed=3)
    model = stub_model(OuterMean(), context=0)
    result = super_resolve(volume, model, replace(PLAIN, planes="isotropic")).voxels
    turned = Volume(volume.voxels.transpose(2, 0, 1).copy(), volume.grid)
    again = super_resolve(turned, model, replace(PLAIN, planes="isotropic")).voxels
    np.testing.assert_allclose(again, result.transpose(2, 0, 1), atol=0.1)
    whole = super_resolve(noise((30, 30, 30), seed=4), model, replace(PLAIN, planes="isotropic"))
    part = super_resolve(
        noise((30, 30, 30), seed=4), model, replace(PLAIN, planes="isotropic", roi=((9, 21), (9, 21), (9, 21)))
    )
    np.testing.assert_allclose(part.voxels, whole.voxels[18:42, 18:42, 18:42], atol=1)


class OuterMean(torch.nn.Module):
    """The mean of the two outer of five slices, every pixel twice."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("outer", scale=2, slices=2, context=0)

    def encode(self, x):
        return (x[:, :1] + x[:, 4:]) / 2

    def decode(self, features, positions=None):
        return {"sr": torch.nn.functional.interpolate(features, scale_factor=2.0)}

    def forward(self, x):
        return self.decode(self.encode(x))


def test_beyond_the_ends_a_slab_has_the_slices_of_the_other_side():
    volume = np.arange(4 * 2 * 3).reshape(4, 2, 3)
    assert np.array_equal(slab_around(volume, 0, 2), volume[[2, 1, 0, 1, 2]])
    assert np.array_equal(slab_around(volume, 2, 1, axis=2), np.moveaxis(volume, 2, 0)[[1, 2, 1]])
    assert np.array_equal(slab_around(volume[:2], 1, 2), volume[[1, 0, 1, 0, 1]])
    assert np.array_equal(slab_around(volume[:1], 0, 2), volume[[0] * 5])


def test_the_gradient_branch_sees_the_middle_slice_alone():
    network, x = five_slices(), torch.rand(2, 5, 8, 9)
    result = network(x)
    assert result["sr"].shape == result["branch"].shape == (2, 1, 16, 18)
    assert torch.equal(result["gradient"], gradient_map(x[:, 2:3]))
    assert network.branch_head.in_channels == 1


def test_without_neighbours_networks_are_what_they_were():
    torch.manual_seed(1)
    before = build_network("unetspsr", nf=4, nb=4, gc=4)
    torch.manual_seed(1)
    now = build_network("unetspsr", nf=4, nb=4, gc=4, slices=0)
    assert "slices" not in before.options and before.describe() == now.describe()
    x = torch.rand(1, 1, 9, 8)
    assert torch.equal(before(x)["sr"], now(x)["sr"])
    assert NetworkSpec.from_json({"network": "unetspsr"}).input_channels == 1


@pytest.mark.parametrize("options", [dict(in_nc=3, slices=2), dict(in_nc=5), dict(in_nc=3, slices=1, out_nc=3)])
@pytest.mark.parametrize("name", ["unetspsr", "residual"])
def test_channels_that_are_no_slices_are_refused(name, options):
    with pytest.raises(ValueError, match="in_nc"):
        build_network(name, nf=4, nb=4, **options)


@pytest.mark.parametrize("name", ["unetspsr", "residual"])
def test_a_model_of_several_slices_is_saved_checked_and_calibrated(name, tmp_path):
    network = five_slices(name)
    model = stub_model(network, context="unknown")
    if name == "residual":  # the other looks so far that it takes seconds to find out
        model = calibrate(model, device="cpu")
    loaded = Model.load(model.save(tmp_path / "m.safetensors"))
    assert loaded.spec.slices == 2 and loaded.spec.input_channels == 5
    assert probe(loaded.spec).shape == (1, 5, 16, 16)
    assert all(right for _, right, _ in loaded.verify())
    if name == "residual":
        assert 0 < loaded.spec.context <= 6
    scan = np.random.default_rng(0).random((3, 12, 10), np.float32)
    np.testing.assert_allclose(
        1000 * model_method(loaded, "cpu")(scan, Acquisition()),
        by_hand(network, 1000 * scan).clip(-20, 1020),
        atol=1e-2,
    )


def test_a_card_of_other_slices_than_its_network_is_refused(tmp_path):
    model = stub_model(five_slices())
    path = model.save(tmp_path / "m.safetensors")
    wrong = replace(Model.load(path).card, spec=replace(model.spec, slices=1))
    with pytest.raises(ModelError, match="slices"):
        from CBCTSuperResLib.models.weights import network_of

        network_of(wrong)


def options_for(tmp_path, **train):
    """Options of a 2.5-D training on volumes of the folder, HR alone unless told otherwise."""
    values = {"mode": "HR", "HR_size": 16, "batch_size": 3, "normalization_range": RANGE, "degradation": "physical"}
    return read_options(
        {
            "name": "t",
            "scale": 2,
            "path": {"root": str(tmp_path / "root")},
            "network_G": {"nf": 4, "nb": 4, "gc": 4, "in_nc": 5, "out_nc": 1},
            "network_D": {"nf": 4},
            "datasets": {"train": {**values, **train}, "val": {**values_of_val(values), **train}},
        }
    )


def values_of_val(values: dict) -> dict:
    return {name: value for name, value in values.items() if name in ("mode", "normalization_range", "degradation")}


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(n) for n in range(count)]


def test_batches_of_volumes_and_of_drawn_slices_hold_slabs_and_their_middle(tmp_path):
    noise((7, 40, 44)).write(tmp_path / "a.nrrd")
    options = options_for(tmp_path, dataroot_HR=str(tmp_path / "a.nrrd"), procedural=2)
    source = open_source(options.dataset("train"), options)
    batch = source.batch(range(9), generators(9))
    assert batch["LR"].shape == (9, 5, 8, 8) and batch["HR"].shape == (9, 1, 16, 16)
    (*_, last) = images = open_images(options.dataset("val"), options)
    assert len(images) == 9 and last.slab.shape == (5, 128 // 8, 128 // 8)
    assert np.array_equal(last.slab[2], last.LR) and last.HR.shape == (32, 32)
    found = Validator(options, images).run({"G": five_slices()}, 1)
    assert found["images"] == 9 and np.isfinite(found["psnr"])


def test_lr_of_a_simulated_volume_is_each_neighbour_degraded_and_hr_the_slice_itself(tmp_path):
    volume = noise((7, 40, 44))
    volume.write(tmp_path / "a.nrrd")
    quiet = {"noise": [0, 0], "strong_share": 0, "grain_share": 0, "shift": 0, "anisotropy": 1}
    options = options_for(tmp_path, dataroot_HR=str(tmp_path / "a.nrrd"), degradation_options=quiet)
    images = open_images(options.dataset("val"), options)
    assert np.allclose(images[3].HR, volume.voxels[3] / 1000, atol=1e-5)
    assert np.array_equal(images[0].slab[0], images[0].slab[4]) and np.array_equal(images[6].slab[1], images[6].slab[3])
    assert not np.array_equal(images[3].slab[1], images[3].slab[3])


def test_pairs_of_slice_files_are_neighbours_by_their_numbers(tmp_path):
    random = np.random.default_rng(0)
    for patient in ("p1", "p2"):
        for number in (8, 9, 10):
            for side, edge in (("LR", 10), ("HR", 20)):
                image = random.integers(1, 999, (1, edge, edge)).astype(np.uint16)
                path = tmp_path / side / patient / f"axial_{number}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_slice(image[0], path)
    roots = {"dataroot_HR": str(tmp_path / "HR"), "dataroot_LR": str(tmp_path / "LR")}
    options = options_for(tmp_path, mode="LRHR", degradation="bicubic", **roots)
    images = {pair.name: pair for pair in open_images(options.dataset("val"), options)}
    first, middle = images["p1/axial_8"], images["p1/axial_9"]
    assert np.array_equal(middle.slab[1], first.LR) and np.array_equal(middle.slab[0], middle.LR)
    assert np.array_equal(middle.slab[3], images["p1/axial_10"].LR)
    assert middle.HR.shape == (20, 20)


def test_slices_that_belong_to_no_scan_are_refused_by_name(tmp_path):
    for name in ("one", "two"):
        write_slice(np.full((20, 20), 500, np.uint16), tmp_path / "s" / f"{name}.tif")
    options = options_for(tmp_path, dataroot_HR=str(tmp_path / "s"))
    with pytest.raises(InputError, match=r"one\.tif has no neighbouring slices"):
        open_source(options.dataset("train"), options)


def test_neighbours_in_training_are_also_those_of_coarse_slices(tmp_path):
    noise((9, 8, 8)).write(tmp_path / "a.nrrd")
    planes = planes_of(list_entries(tmp_path / "a.nrrd")[0])
    found = neighbours_of(planes, 2, gaps=(1, 2))
    assert found[4] == [2, 3, 4, 5, 6] and found[3] == [7, 1, 3, 5, 7]
    assert neighbours_of(planes, 0)[3] == [3]


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_slab_continues_in_depth(seed):
    slab = training_slab(np.random.default_rng([4, seed]), 32, 2)
    assert slab.shape == (5, 32, 32) and slab.dtype == np.float32 and np.isfinite(slab).all()


def test_near_slices_of_drawn_slabs_are_more_alike_than_far_ones():
    slabs = [training_slab(np.random.default_rng([4, n]), 48, 2) for n in range(30)]
    near, far = (np.mean([np.abs(s[2] - s[k]).mean() for s in slabs]) for k in (1, 0))
    assert 0 < near < far


def test_thick_slices_are_averaged_over_their_own_layers():
    layers = np.zeros((12, 2, 2), np.float32)
    layers[5:7] = 1  # the third of five slices
    found = averaged_in_depth(layers)[::2]
    assert found.shape == (5, 2, 2)
    np.testing.assert_allclose(found[:, 0, 0], [0, 0.125, 0.75, 0.125, 0])
    np.testing.assert_allclose(averaged_in_depth(np.ones_like(layers)), 1)


def write_slice(image: np.ndarray, path) -> None:
    from CBCTSuperResLib.io.pictures import write_picture

    write_picture(image, path)


def test_the_enlarger_of_a_training_takes_a_slab():
    network, slab = five_slices(), np.random.default_rng(0).random((5, 12, 10), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(slab)[None])["sr"][0, 0].numpy()
    np.testing.assert_allclose(Enlarger(network)(slab), expected, atol=1e-5)
