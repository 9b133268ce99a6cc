"""The recipe of SR-CycleGAN: the published losses to the digits, unpaired data, going on where it stopped, applying."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.phantom import jaw_scans
from CBCTSuperResLib.core.errors import Cancelled, InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.srcyclegan import SRCycleGANBack
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.data import unpaired
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.loop import Schedule
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.ranks import Processes
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from CBCTSuperResLib.train.recipes.srcyclegan import ImagePool, ssim
from CBCTSuperResLib.train.step import Precision, Steps
from fixtures_spsr import unit
from fixtures_srcyclegan import fill
from options_files import tiny
from scans import make_scan
from tiny_runs import same_payload

PLAIN = Precision("float32", torch.device("cpu"))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [])


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Coarse slices of 8 bit, fine ones of 16 bit, which have nothing to do with each other."""
    root = tmp_path_factory.mktemp("slices")
    for kind, edge, count, scale, dtype in (("A", 40, 3, 255, np.uint8), ("B", 120, 2, 40000, np.uint16)):
        (root / kind).mkdir()
        for number in range(count):
            image = cv2.GaussianBlur(np.random.default_rng([edge, number]).random((edge, edge)), (0, 0), 3)
            image = (image - image.min()) / (image.max() - image.min()) * scale
            cv2.imwrite(str(root / kind / f"{number}.png"), image.astype(dtype))
    return root


def options_of(slices, root, scale=2, train=None, **dataset):
    data = {"HR_size": 24 * scale, "batch_size": 2, "n_workers": 0, "mode": "LRHR"}
    roots = {"dataroot_LR": str(slices / "A"), "dataroot_HR": str(slices / "B")}
    return read_options(
        {
            "name": "tiny",
            "use_tb_logger": False,
            "model": "srcyclegan",
            "scale": scale,
            "gpu_ids": [],
            "datasets": {
                "train": {**data, **roots, **dataset},
                "val": {"mode": "HR", "dataroot_HR": str(slices / "B")},
            },
            "path": {"root": str(root)},
            "network_G": {"nf": 8, "nb": 1},
            "network_D": {"nf": 4},
            "train": {"niter": 4, "val_freq": 2, "ema_decay": 0.9, "manual_seed": 3, "pool_size": 3, **(train or {})},
            "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "val_images": 1},
        }
    )


def checkpoint(folder, step: int) -> dict:
    payload = read_checkpoint(folder / "training_state" / f"{step}.state")
    payload["options"]["path"].pop("root")
    return payload


@pytest.fixture(scope="module")
def finished(slices, tmp_path_factory):
    """A run to its end, and another that was stopped and went on."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "standard_observers", lambda options: [])
        whole = run.train(options_of(slices, root / "whole"))
        asked, stopped = iter(range(9)), options_of(slices, root / "stopped")
        with pytest.raises(Cancelled, match="after step 3 of 4"):
            run.train(stopped, cancelled=lambda: next(asked) >= 3)
        torch.manual_seed(99)
        return whole, run.train(stopped, resume="auto")


def test_a_training_goes_on_bit_for_bit_where_it_was_stopped_pools_included(finished):
    whole, resumed = finished
    assert same_payload(checkpoint(resumed.folder, 4), checkpoint(whole.folder, 4))
    (pools,) = checkpoint(whole.folder, 4)["recipe"]
    assert {role: len(images) for role, images in pools.items()} == {"D_A": 3, "D_B": 3}
    assert resumed.results == whole.results and whole.results["latest"]["psnr_cubic"] > 10


def test_pictures_show_both_ways_and_back(finished):
    folder = finished[0].folder / "val_images"
    for name in ("coarse 1", "fine 1"):
        picture = cv2.imread(str(folder / name / f"{name}_4.png"), cv2.IMREAD_GRAYSCALE)
        assert picture is not None and picture.shape[1] >= 3 * 48 and picture.std() > 5


def test_the_enlarging_generator_is_exported_with_both_windows_and_makes_the_other_scanners_grey_values(
    finished, tmp_path
):
    model = Model.load(export_run(finished[0].folder, tmp_path / "m.safetensors", device="cpu"))
    card = model.card
    assert card.spec.domain == "other" and card.spec.context == "global" and card.training["losses"]["down"] == 1
    assert 0 <= card.window[0] < card.window[1] <= 255 and 30000 < card.output_window[1] <= 40000
    assert "invent" in card.limits
    scan = make_scan((3, 20, 24))
    result = super_resolve(scan, model, Options(window="auto", dtype="uint16"))
    assert result.voxels.shape == (3, 40, 48)
    assert card.output_window[0] <= np.median(result.voxels) <= card.output_window[1]


def test_one_batch_and_three_updates_give_the_published_terms(slices, tmp_path):
    train = {"as_published": True, "pool_size": 0, "lr_G": 1e-3, "lr_D": 1e-3, "ema_decay": None}
    options = options_of(slices, tmp_path, 8, train, HR_size=256)
    recipe = build_recipe(options)
    networks = {
        "G": fill(build_network("srcyclegan", nf=8, scale=8, upsampling="PS"), "G_A."),
        "F": fill(SRCycleGANBack(nf=8, scale=8), "G_B."),
        "D_A": fill(build_network("discriminator_patch", nf=8), "D_A."),
        "D_B": fill(build_network("discriminator_patch", nf=8), "D_B."),
    }
    for network in networks.values():
        network.train()
    optimizers = recipe.optimizers(networks)
    steps = Steps(recipe.step, networks, optimizers, PLAIN, Processes())
    batch = {"LR": torch.from_numpy(unit((2, 1, 32, 32), 81)), "HR": torch.from_numpy(unit((2, 1, 256, 256), 82))}
    names = ("gan_fine", "gan_coarse", "cycle_coarse", "cycle_fine", "identity_fine", "identity_coarse", "down", "up")
    columns = [f"l_g_{name}" for name in (*names, "ssim_clinical", "ssim_micro", "total")] + ["l_d_fine", "l_d_coarse"]
    for number, expected in enumerate(
        [
            (1.2640506, 0.27389806, 0.62293296, 0.62293748, 0.10623415, 0.011604375, 0.54198171, 0.62435668, 0.98763833,
             0.99436357, 6.0499979, 0.81709718, 0.46957253),
            (0.60397183, 0.22402173, 0.62244319, 0.62108505, 0.10587609, 0.011837857, 0.54021265, 0.67590601,
             0.98750773, 0.99507737, 5.3879395, 0.51609154, 0.75318361),
            (0.31939255, 0.74679213, 0.59098609, 0.61941844, 0.10549338, 0.011953848, 0.53829076, 0.69703744,
             0.98761019, 0.99467134, 5.6116462, 0.44347576, 0.26653928),
        ],
        start=1,
    ):  # fmt: skip
        logs = steps.make(number, [batch])
        assert [float(logs[name]) for name in columns] == pytest.approx(expected, rel=2e-7, abs=1e-7), number
    found = networks["G"].state_dict()["model.1.weight"].flatten()[:3].tolist()
    assert found == pytest.approx([-0.21655368, 0.17921109, -0.16102917], abs=1e-7)
    found = networks["D_A"].state_dict()["model.0.weight"].flatten()[:3].tolist()
    assert found == pytest.approx([-0.14856616, -0.030964338, 0.18396976], abs=1e-7)


def test_ssim_is_the_published_one():
    a = torch.from_numpy(unit((2, 1, 24, 20), 73)) * 2 - 1
    b = torch.clamp(a + (torch.from_numpy(unit((2, 1, 24, 20), 74)) - 0.5) / 2, -1, 1)
    assert float(ssim(a, b)) == pytest.approx(0.79536899, abs=5e-9)
    assert float(ssim(a[:, :, :7, :5], b[:, :, :7, :5])) == pytest.approx(0.81721735, abs=5e-9)


def test_the_pool_gives_back_each_image_once_and_later(monkeypatch):
    torch.manual_seed(0)
    pool, seen = ImagePool(4), []
    for number in range(200):
        (image,) = pool.exchanged(torch.full((1, 1, 2, 2), float(number)))
        seen.append(number - int(image[0, 0, 0]))
    assert seen[:4] == [0, 0, 0, 0] and len(pool.images) == 4
    assert 0.35 < np.mean([age > 0 for age in seen]) < 0.6
    assert torch.equal(ImagePool(0).exchanged(torch.ones(2, 1, 2, 2)), torch.ones(2, 1, 2, 2))


def test_the_learning_rate_stays_for_half_of_the_training_and_then_falls_to_nothing(slices, tmp_path):
    options = options_of(slices, tmp_path, train={"niter": 100})
    optimizers = build_recipe(options).optimizers(build_recipe(options).build())
    schedule, rates = Schedule(optimizers, options.train), []
    for number in range(1, 101):
        schedule.set(number)
        rates.append(schedule.rate("G"))
    assert rates[0] == rates[50] == 2e-4 and rates[75] == pytest.approx(1e-4) and 0 < rates[99] < 5e-6


def test_patches_are_centred_within_the_masks_of_either_scanner(slices, tmp_path):
    for kind, edge, count in (("A", 40, 3), ("B", 120, 2)):
        (tmp_path / kind).mkdir()
        for number in range(count):
            mask = np.zeros((edge, edge), np.uint8)
            if (kind, number) != ("A", 1):  # an image without anything in its mask is left out
                mask[edge // 2 - 1 : edge // 2 + 1, edge // 2 - 1 : edge // 2 + 1] = 1
            cv2.imwrite(str(tmp_path / kind / f"{number}.png"), mask)
    masks = {"dataroot_mask_LR": str(tmp_path / "A"), "dataroot_mask": str(tmp_path / "B")}
    still = {"use_flip": False, "use_rot": False, "use_contrast": False}
    source = build_recipe(options_of(slices, tmp_path, **masks, **still)).open_source()
    assert source.names == ["0", "2"] and "1 of 3 LR images have an empty mask" in " ".join(source.warnings)
    batch = source.batch([0, 0, 1], [np.random.default_rng(n) for n in range(3)])
    apart = (batch["LR"][0] - batch["LR"][1]).abs().max(), (batch["LR"][0] - batch["LR"][2]).abs().max()
    image = cv2.imread(str(slices / "A" / "0.png"), cv2.IMREAD_UNCHANGED).astype(float)
    middle = source.window.to_unit(image[7:33, 7:33])  # patches of 24 whose middle is in the mask lie here
    assert apart[0] < apart[1]
    found = batch["LR"][0, 0].numpy()
    starts = [(i, j) for i in range(3) for j in range(3)]
    assert min(np.abs(middle[i : i + 24, j : j + 24] - found).max() for i, j in starts) < 1e-6
    source.close()


def test_masks_of_volumes_are_label_maps_beside_them(slices, tmp_path):
    coarse = make_scan((4, 40, 44))
    mask = np.zeros(coarse.voxels.shape, np.uint8)
    mask[2, 5, 7] = 3
    coarse.write(tmp_path / "coarse.nrrd")
    Volume(mask, coarse.grid).write(tmp_path / "mask.nrrd")
    roots = {"dataroot_LR": str(tmp_path / "coarse.nrrd"), "dataroot_mask_LR": str(tmp_path / "mask.nrrd")}
    still = {"use_flip": False, "use_rot": False, "use_contrast": False}
    source = build_recipe(options_of(slices, tmp_path, **roots, **still)).open_source()
    assert len(source) == 1 and source.describe()["masks"] == ["LR"]
    found = source.batch([0], [np.random.default_rng(0)])["LR"][0, 0].numpy()
    assert np.allclose(found, np.clip(source.window.to_unit(coarse.voxels[2, :24, :24].astype(float)), 0, 1), atol=1e-5)
    source.close()


def test_masks_that_will_not_do_are_refused_in_words(slices, tmp_path):
    for name, edge in (("empty", 40), ("small", 20)):
        (tmp_path / name).mkdir()
        for number in range(3):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((edge, edge), 200 * (edge == 20), np.uint8))
    for name, words in (("empty", "LR images leave nothing"), ("small", "1 of 20 x 20 pixels, not 1 of 40 x 40")):
        recipe = build_recipe(options_of(slices, tmp_path, dataroot_mask_LR=str(tmp_path / name)))
        with pytest.raises(InputError, match=words):
            recipe.open_source()
    words = r"without mask_LR; .*x.png without LR\. Name both .* alike, in dataroot_mask_LR and dataroot_LR"
    with pytest.raises(InputError, match=words):
        (tmp_path / "small" / "0.png").rename(tmp_path / "small" / "x.png")
        build_recipe(options_of(slices, tmp_path, dataroot_mask_LR=str(tmp_path / "small"))).open_source()
    with pytest.raises(OptionError, match="dataroot_mask_LR has no meaning with model unetspsr"):
        read_options(tiny(datasets__train__dataroot_mask_LR="masks"))


def test_masks_take_a_bit_a_pixel_and_give_each_of_their_pixels_once():
    pixels = np.random.default_rng(0).random((210, 203)) < 0.1
    pixels[:7] = pixels[90] = False
    mask = unpaired.Mask(pixels)
    assert mask.nbytes < 0.2 * pixels.nbytes and np.array_equal(mask.pixels(), pixels)
    assert [mask.place(n) for n in range(mask.count)] == list(zip(*np.nonzero(pixels), strict=True))
    assert unpaired.Mask(np.zeros((3, 3), bool)).count == 0


def test_windows_are_of_all_scans_within_the_field_of_view_and_of_what_patches_around_masks_show(slices, tmp_path):
    inside = np.hypot(*(np.indices((48, 48)) - 23.5)) < 23
    tissue = np.random.default_rng(0).integers(1000, 2001, (6, 48, 48))
    for number, bright in enumerate((0, 3000)):  # the second scan is brighter
        voxels = np.where(inside, tissue + bright, 0).astype(np.uint16)
        Volume(voxels, make_scan((6, 48, 48)).grid).write(tmp_path / f"{number}.nrrd")
        mask = np.zeros((6, 48, 48), np.uint8)
        mask[:, 24, 24] = number == 0
        Volume(mask, make_scan((6, 48, 48)).grid).write(tmp_path / f"mask {number}.nrrd")
    scans, masks = ([str(tmp_path / f"{kind}{number}.nrrd") for number in (0, 1)] for kind in ("", "mask "))
    for more, expected in (({}, (1000, 5000)), ({"dataroot_mask_LR": masks}, (1000, 2000))):
        fine = [str(slices / "B")] * 2
        source = build_recipe(options_of(slices, tmp_path, dataroot_LR=scans, dataroot_HR=fine, **more)).open_source()
        assert (source.window.lo, source.window.hi) == pytest.approx(expected, abs=20)
        source.close()


def test_every_file_is_read_once_for_windows_training_and_previews(slices, tmp_path, monkeypatch):
    opened = []
    real = unpaired.read_pictures
    monkeypatch.setattr(unpaired, "read_pictures", lambda *a, **k: opened.append(a) or real(*a, **k))
    recipe = build_recipe(options_of(slices, tmp_path))
    source = recipe.open_source()
    recipe.open_validation().close()
    assert len(opened) == 2  # LR and HR
    assert source.batch([0], [np.random.default_rng(0)])["LR"].shape == (1, 1, 24, 24)  # still open
    source.close()


def test_noise_of_the_coarse_slices_is_estimated_and_added_to_what_f_makes(slices, tmp_path):
    folder = tmp_path / "noisy"
    folder.mkdir()
    for number in range(3):
        random = np.random.default_rng(number)
        smooth = 120 + 60 * np.sin(np.arange(64) / 9 + number)
        cv2.imwrite(str(folder / f"{number}.png"), (smooth + random.normal(0, 5, (64, 64))).astype(np.uint8))
    roots = {"dataroot_LR": str(folder), "normalization_range": [0, 250]}
    options = options_of(slices, tmp_path, use_contrast=False, **roots)
    source = build_recipe(options).open_source()
    found = source.describe()["coarse_scanner"]
    assert found["noise"] == pytest.approx(0.02, abs=0.002) and found["blur"] is None
    assert any(text.startswith("Blur of the coarse slices: not told by them. Noise: 2.") for text in source.warnings)
    made = []
    for noise in (0.0, 0.3):
        recipe = build_recipe(options_of(slices, tmp_path, train={"coarse_noise": noise}))
        torch.manual_seed(0)
        networks = recipe.build()
        steps = Steps(recipe.step, networks, recipe.optimizers(networks), PLAIN, Processes())
        torch.manual_seed(1)
        batch = {"LR": torch.rand(2, 1, 24, 24), "HR": torch.rand(2, 1, 48, 48)}
        made.append(steps.make(1, [batch]) | {"F": recipe.pools["D_B"].images[0]})
    assert (made[0]["F"] - made[1]["F"]).std() == pytest.approx(0.3, rel=0.1)
    assert made[0]["l_g_cycle_fine"] != made[1]["l_g_cycle_fine"] and made[0]["l_g_up"] == made[1]["l_g_up"]


def test_f_begins_with_the_blur_that_the_coarse_scans_tell(slices, tmp_path):
    scan = jaw_scans((32, 192, 192), 0.15, seed=3)[1]  # blank outside a cylinder, with a blur of 0.425 of its pixels
    scan.write(tmp_path / "coarse.nrrd")
    recipe = build_recipe(options_of(slices, tmp_path, dataroot_LR=str(tmp_path / "coarse.nrrd")))
    source = recipe.open_source()
    told = source.describe()["coarse_scanner"]["blur"]
    assert told == pytest.approx(0.425, abs=0.1)
    network = recipe.build()["F"].requires_grad_(False)
    line = network.blur.weight[0, 0].sum(0)  # of the Gaussian and the mean of a pixel of two
    places = torch.arange(len(line)) - (len(line) - 1) / 2
    assert float(line.detach().sum()) == pytest.approx(1) and float((line * places).sum()) == pytest.approx(0, abs=1e-5)
    assert float((line * places**2).sum()) == pytest.approx(4 * told**2 + 1 / 4, rel=0.02)
    recipe = build_recipe(options_of(slices, tmp_path, train={"coarse_blur": 0.8}))
    given = recipe.build()["F"].requires_grad_(False).blur.weight[0, 0].sum(0)
    assert float((given * places**2).sum()) == pytest.approx(4 * 0.64 + 1 / 4, rel=0.05)
    source.close()


def test_the_loss_of_fine_slices_and_back_trains_g_alone_unless_as_published(slices, tmp_path):
    only = {f"{name}_weight": 0.0 for name in ("gan", "gan_coarse", "cycle_coarse", "identity_fine", "identity_coarse")}
    only |= {f"{name}_weight": 0.0 for name in ("down", "up", "clinical_ssim", "micro_ssim")}
    for as_published in (False, True):
        recipe = build_recipe(options_of(slices, tmp_path, train={**only, "as_published": as_published}))
        networks = recipe.build()
        before = {role: [p.clone() for p in networks[role].parameters()] for role in "GF"}
        steps = Steps(recipe.step, networks, recipe.optimizers(networks), PLAIN, Processes())
        steps.make(1, [{"LR": torch.rand(2, 1, 24, 24), "HR": torch.rand(2, 1, 48, 48)}])
        moved = {
            role: any(not torch.equal(a, b) for a, b in zip(before[role], networks[role].parameters(), strict=True))
            for role in "GF"
        }
        assert moved == {"G": True, "F": as_published}


def test_slices_smaller_than_a_patch_are_left_out_or_refused_and_pixels_that_do_not_fit_the_scale_are_told(
    slices, tmp_path
):
    for kind, edges in (("some", (40, 20)), ("none", (20, 23))):
        (tmp_path / kind).mkdir()
        for edge in edges:
            image = np.random.default_rng(edge).integers(0, 255, (edge, edge), np.uint8)
            cv2.imwrite(str(tmp_path / kind / f"{edge}.png"), image)
    source = build_recipe(options_of(slices, tmp_path, dataroot_LR=str(tmp_path / "some"))).open_source()
    assert source.names == ["40"] and "1 of 2 LR images are smaller than HR_size / scale, 24: 20" in source.warnings[0]
    source.close()
    with pytest.raises(InputError, match="2 of 2 LR images are smaller than HR_size / scale, 24: 20, 23"):
        build_recipe(options_of(slices, tmp_path, dataroot_LR=str(tmp_path / "none"))).open_source()
    roots = {"dataroot_LR": str(tmp_path / "coarse.nrrd"), "dataroot_HR": str(tmp_path / "fine.nrrd")}
    voxels = make_scan((2, 48, 48)).voxels
    Volume(voxels, Grid((48, 48, 2), (0.3, 0.3, 0.3))).write(roots["dataroot_LR"])
    words_at = {0.1: "0.3 mm wide in the coarse slices and 0.1 mm in the fine ones, which is 3", 0.15: ""}
    for spacing, words in words_at.items():
        Volume(voxels, Grid((48, 48, 2), (spacing, spacing, 0.3))).write(roots["dataroot_HR"])
        source = build_recipe(options_of(slices, tmp_path, **roots)).open_source()
        told = [text for text in source.warnings if text.startswith("Pixels are")]
        assert len(told) == bool(words) and words in "".join(told)
        source.close()


def test_data_that_will_not_do_are_refused_in_words(slices, tmp_path):
    with pytest.raises(OptionError, match="HR_size must be at least 48"):
        options_of(slices, tmp_path, 2, None, HR_size=32)
    flat = tmp_path / "flat"
    flat.mkdir()
    cv2.imwrite(str(flat / "0.png"), np.full((64, 64), 7, np.uint8))
    with pytest.raises(InputError, match="all of one grey value"):
        build_recipe(options_of(slices, tmp_path, dataroot_LR=str(flat))).open_source()
    colours = tmp_path / "colours"
    colours.mkdir()
    cv2.imwrite(str(colours / "0.png"), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="colour"):
        build_recipe(options_of(slices, tmp_path, dataroot_LR=str(colours))).open_source()
