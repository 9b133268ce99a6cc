"""A training step of UNetSPSR is the public one, digit by digit, and one batch is one batch however it is cut."""

from __future__ import annotations

import copy
import math
import shutil
from contextlib import contextmanager

import pytest
import torch
from CBCTSuperResLib.core.digest import file_sha256
from CBCTSuperResLib.core.errors import ModelError, OptionError
from CBCTSuperResLib.networks.vgg import VGG19
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from CBCTSuperResLib.train.recipes.unetspsr import load_vgg19
from recipe_harness import start
from spsr_training import fill_discriminator, fill_generator, pairs, training_options

F11 = """
.228353113 .0027768575  .32220991  .00162939577 .0020211299  .556990406 .901876666 .00347733046 1.26174582 .0169449993
.184090145 .00270818834 .284023529 .00175344706 .00202771472 .474603024 .925680068 .00202321377 1.2544725  .015602464
.150752712 .00265994146 .24703515  .00177730484 .00206295086 .40428806  .942995153 .0012279286  1.23200283 .0132509322
"""
F11_NAMES = ["l_g_pix", "l_g_gan", "l_g_pix_grad_branch", "l_g_pix_grad", "l_g_gan_grad", "l_g_total"]
F11_NAMES += ["l_d_real", "l_d_fake", "l_d_real_grad", "l_d_fake_grad"]


def start_f11(dtype=torch.float64):
    options = training_options(network_G=dict(nf=16, nb=20, gc=32), network_D=dict(nf=16), hr_size=32)
    run = start(build_recipe(options), dtype)
    fill_generator(run.networks["G"])
    fill_discriminator(run.networks["D"])
    fill_discriminator(run.networks["D_grad"], "grad.")
    return run


def test_three_steps_have_the_documented_losses():
    run, batch = start_f11(), pairs(2, 16)
    for number, line in enumerate(F11.strip().splitlines(), start=1):
        if number == 3:
            for group in [group for optimizer in run.optimizers.values() for group in optimizer.param_groups]:
                group["lr"] *= 0.5
        logs = run.step(batch)
        found = [logs[name] for name in F11_NAMES]
        assert found == pytest.approx([float(text) for text in line.split()], rel=5.1e-9)
    u = run.networks["D"].conv1.weight_u[:3]
    assert u.tolist() == pytest.approx([0.10835086, 0.16650752, -0.03521854], abs=5.1e-9)


def test_float32_agrees_with_the_documented_losses():
    logs = start_f11(torch.float32).step(pairs(2, 16))
    expected = [float(text) for text in F11.split()[: len(F11_NAMES)]]
    assert [logs[name] for name in F11_NAMES] == pytest.approx(expected, abs=2e-6)


def started(seed: int = 1, **options):
    torch.manual_seed(seed)
    run = start(build_recipe(training_options(**options)))
    for network in run.networks.values():  # SPSR's small initial weights would hide differences
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.data.mul_(5)
    return run


def state_of(run) -> dict[str, torch.Tensor]:
    return {
        f"{role}.{name}": tensor.clone()
        for role, network in run.networks.items()
        for name, tensor in network.state_dict().items()
    }


@pytest.mark.parametrize("gan_type", ["lsgan", "vanilla"])
@pytest.mark.parametrize("micro_batches", [2, 4])
def test_a_batch_in_parts_trains_like_the_whole(gan_type, micro_batches):
    options = dict(gan_type=gan_type, gan_weight=0.5, gradient_gan_weight=0.5)
    whole, parts = (started(**options) for _ in range(2))
    for seed in (1, 3, 5):
        batch = pairs(4, 8, seed)
        expected, found = whole.step(batch), parts.step(batch, micro_batches)
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)
    expected = state_of(whole)
    for name, tensor in state_of(parts).items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-10), name


def test_spectral_norm_moves_on_once_for_each_pass_over_the_batch():
    for micro_batches in (1, 2):
        run = started()
        expected = copy.deepcopy(run.networks["D"])
        with torch.no_grad():
            for _ in range(4):  # real and fake in the generator's update, and in its own
                expected(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
        run.step(pairs(2, 8), micro_batches)
        assert torch.equal(run.networks["D"].conv4.weight_u, expected.conv4.weight_u)
        assert run.networks["D"].training


def test_updates_come_in_the_order_of_the_public_step():
    run = started()
    run.step(pairs(2, 8))
    assert run.order == ["G", "D", "D_grad"]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_an_update_changes_its_own_network_alone(micro_batches):
    run = started()
    update, changed = run.update, {}

    @contextmanager
    def watched(role):
        before = state_of(run)
        with update(role) as inner:
            yield inner
        after = state_of(run)
        changed[role] = {
            name.partition(".")[0]
            for name in after
            if not name.endswith(("weight_u", "weight_v")) and not torch.equal(after[name], before[name])
        }

    run.update = watched
    run.step(pairs(2, 8), micro_batches)
    assert changed == {"G": {"G"}, "D": {"D"}, "D_grad": {"D_grad"}}


def test_warming_up_trains_pixels_and_branch_alone():
    run = started(warmup_iters=2)
    before = state_of(run)
    for _ in range(2):
        assert set(run.step(pairs(2, 8))) == {"l_g_pix", "l_g_pix_grad_branch", "l_g_total"}
    after = state_of(run)
    assert {name[0] for name in after if not torch.equal(after[name], before[name])} == {"G"}
    assert "l_d_real" in run.step(pairs(2, 8))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_legacy_pretraining_changes_the_fusion_alone(micro_batches):
    run = started(Branch_pretrain=1, Branch_init_iters=3)
    for expected in ({"fusion"}, {"fusion"}, {"branch", "fusion", "head", "hr0", "hr1", "trunk", "up"}):
        before = state_of(run)
        run.step(pairs(2, 8), micro_batches)
        after = state_of(run)
        changed = [name for name in after if name.startswith("G.") and not torch.equal(after[name], before[name])]
        assert {name.split(".")[1].split("_")[0] for name in changed} == expected
        assert all(parameter.requires_grad for parameter in run.networks["D_grad"].parameters())


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        ("pixel_weight", "l_g_pix"),
        ("pixel_branch_weight", "l_g_pix_grad_branch"),
        ("gradient_pixel_weight", "l_g_pix_grad"),
        ("gan_weight", "l_g_gan"),
        ("gradient_gan_weight", "l_g_gan_grad"),
    ],
)
def test_a_term_of_weight_0_is_not_computed(weight, name):
    everything = started()
    run = started(**{weight: 0})
    assert name in everything.step(pairs(2, 8)) and name not in run.step(pairs(2, 8))


def test_a_discriminator_of_weight_0_does_not_exist():
    run = started(gan_weight=0)
    assert set(run.networks) == set(run.optimizers) == {"G", "D_grad"}
    assert "l_d_real" not in run.step(pairs(2, 8))


def test_the_generator_alone_can_be_trained():
    run = started(gan_weight=0, gradient_gan_weight=0, gradient_pixel_weight=0)
    assert set(run.step(pairs(2, 8))) == {"l_g_pix", "l_g_pix_grad_branch", "l_g_total"}


def test_the_gradient_branch_has_its_own_rate_decay_and_momentum():
    run = started(lr_G=1e-3, lr_G_grad=2e-3, weight_decay_G=0.1, weight_decay_G_grad=0.2, beta1_G=0.8, beta1_G_grad=0.7)
    trunk, branch = run.optimizers["G"].param_groups
    assert (trunk["lr"], trunk["weight_decay"], trunk["betas"]) == (1e-3, 0.1, (0.8, 0.999))
    assert (branch["lr"], branch["weight_decay"], branch["betas"]) == (2e-3, 0.2, (0.7, 0.999))
    named = run.networks["G"].named_parameters()
    expected = {id(parameter) for name, parameter in named if name.startswith("branch_")}
    assert {id(parameter) for parameter in branch["params"]} == expected
    assert len(trunk["params"]) + len(branch["params"]) == len(list(run.networks["G"].parameters()))


def test_new_networks_begin_small_or_as_interpolation():
    torch.manual_seed(0)
    images = pairs(2, 12)["LR"].float()
    small = build_recipe(training_options()).build()["G"]
    assert small.trunk_end.weight.std().item() == pytest.approx(0.1 * (2 / (9 * 4)) ** 0.5, rel=0.2)
    assert small.trunk_end.bias.abs().max() == 0
    for scale, ours in ((2, {}), (3, {}), (4, {}), (2, {"unshuffle": 2, "nf": 32}), (2, {"skip": True})):
        network = {"initial": "interpolation", "nf": 8, **ours}
        options = training_options(network_G=network, scale=scale, hr_size=48)
        with torch.no_grad():
            found = build_recipe(options).build()["G"](images)["sr"]
        expected = torch.nn.functional.interpolate(images, scale_factor=scale, mode="bilinear")
        inner = [values[..., scale:-scale, scale:-scale].flatten() for values in (found, expected)]
        assert torch.corrcoef(torch.stack(inner))[0, 1] > 0.85


def test_colour_images_are_trained_as_well():
    colours = dict(network_G=dict(in_nc=3, out_nc=3), network_D=dict(in_nc=3))
    logs = started(**colours).step(pairs(2, 8, channels=3))
    assert all(math.isfinite(value) for value in logs.values())


def test_spsrs_own_discriminators_look_at_wider_gradient_maps():
    vgg = dict(which_model_D="discriminator_vgg_128", nf=2)
    run = started(network_D=vgg, hr_size=128)
    seen = []
    run.networks["D_grad"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    logs = run.step(pairs(2, 64))
    assert seen == [130] * 4
    assert all(math.isfinite(value) for value in logs.values())


def test_batch_norm_is_refused_where_it_would_not_see_the_whole_batch():
    vgg = build_recipe(training_options(network_D=dict(which_model_D="discriminator_vgg_128"), hr_size=128))
    vgg.check(1, "cpu")
    vgg.check(8, "cuda")
    with pytest.raises(OptionError, match="discriminator_vgg_128.*several processes on the CPU"):
        vgg.check(2, "cpu")
    with pytest.raises(OptionError, match="discriminator_vgg_128.*in parts"):
        vgg.check(1, "cuda", 2)
    build_recipe(training_options()).check(4, "cpu", 2)


def test_a_batch_that_is_cut_during_the_run_is_refused_with_batch_norm():
    run = started(network_D=dict(which_model_D="discriminator_vgg_128", nf=2), hr_size=128)
    before = state_of(run)
    with pytest.raises(OptionError, match="in parts"):
        run.step(pairs(2, 64), micro_batches=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state_of(run).items())


def test_losses_are_in_float32_where_the_networks_are_not():
    exact, mixed = (start(build_recipe(training_options()), torch.float32) for _ in range(2))
    for role, network in mixed.networks.items():
        network.load_state_dict(exact.networks[role].state_dict())
    mixed.autocast = lambda: torch.autocast("cpu", torch.bfloat16)
    mixed.seen, update = [], mixed.update

    @contextmanager
    def watched(role):
        with update(role) as inner:
            backward = inner.backward
            inner.backward = lambda loss, last=True: (mixed.seen.append(loss.dtype), backward(loss, last))
            yield inner

    mixed.update = watched
    for micro_batches in (1, 2):
        batch = pairs(2, 8)
        expected, found = exact.step(batch, micro_batches), mixed.step(batch, micro_batches)
        assert found == pytest.approx(expected, rel=0.05, abs=1e-3)
    assert set(mixed.seen) == {torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in mixed.networks["D"].parameters())


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """A file like torchvision's, with other weights and named by its own hash."""
    path = tmp_path_factory.mktemp("weights with spaces") / "vgg19.pth"
    torch.manual_seed(5)
    weights = VGG19().state_dict()
    torch.save({**weights, "classifier.0.weight": torch.zeros(2, 2)}, path)
    return path.rename(path.with_name(f"vgg19-{file_sha256(path)[:8]}.pth"))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_features_of_a_file_that_is_named_are_compared(vgg_file, micro_batches):
    run = started(feature_weight=1, feature_weights=vgg_file, gan_weight=0, gradient_gan_weight=0)
    batch = pairs(2, 8)
    network = run.recipe.frozen["feature"]
    with torch.no_grad():
        difference = network(run.networks["G"](batch["LR"])["sr"]) - network(batch["HR"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logs = run.step(batch, micro_batches)
    assert logs["l_g_fea"] == pytest.approx(difference.abs().mean().item(), rel=1e-9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_feature_loss_without_its_file_says_where_to_get_it(tmp_path):
    with pytest.raises(OptionError, match="vgg19-dcbb9e9d.pth.*feature_weight 0"):
        build_recipe(training_options(feature_weight=1))
    with pytest.raises(OptionError, match="does not exist"):
        build_recipe(training_options(feature_weight=1, feature_weights=tmp_path / "no.pth"))


def test_a_damaged_or_strange_feature_file_is_refused(vgg_file, tmp_path):
    other = tmp_path / "vgg19-00000000.pth"
    shutil.copyfile(vgg_file, other)
    with pytest.raises(ModelError, match="begins with"):
        load_vgg19(other)
    shutil.copyfile(vgg_file, tmp_path / "vgg19.pth")
    with pytest.raises(ModelError, match="not with dcbb9e9d"):
        load_vgg19(tmp_path / "vgg19.pth")
    torch.save({"features.0.weight": torch.zeros(2)}, other)
    other = other.rename(tmp_path / f"vgg19-{file_sha256(other)[:8]}.pth")
    with pytest.raises(ModelError, match="no VGG19"):
        load_vgg19(other)
