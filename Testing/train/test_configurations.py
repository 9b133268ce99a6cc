"""The option files that ship: all can be read, and each is what it claims to be."""

from __future__ import annotations

import re

import pytest
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.train.data.public import scans_to_train_on
from CBCTSuperResLib.train.options import TrainingOptions
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.plan import plan

RECIPES = ("light", "unetspsr-full", "tutorial", "quick-look")


SAID = re.compile(r"--set((?:\s+(?:\\\s+)?[\w.]+=[^\s\\]+)+)")


def options_of(name: str, *overrides: str) -> TrainingOptions:
    return read_options(resource(f"Configurations/{name}.json"), overrides)


@pytest.mark.parametrize("name", [*RECIPES, "any-size"])
def test_a_recipe_reads_and_names_only_scans_that_may_be_trained_on(name):
    options = options_of(name)
    train, val = options.dataset("train"), options.dataset("val")
    scans_to_train_on(train.public)
    assert not val.public and val.procedural_seed != train.procedural_seed
    assert options.notes == ()


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "light"])
def test_a_recipe_begins_with_the_pixel_and_branch_losses_alone(name):
    train = options_of(name).train
    assert 0.7 <= train.warmup_iters / train.niter < 1
    assert min(train.gan_weight, train.gradient_gan_weight, train.pixel_weight, train.pixel_branch_weight) > 0


@pytest.mark.parametrize("name", ["light", "tutorial", "quick-look", "srgan3d"])
def test_a_recipe_for_the_cpu_is_complete_in_float32(name):
    options = options_of(name)
    assert options.gpu_ids == () and options.train.precision == "float32" and options.train.deterministic


def test_the_tutorial_needs_no_data():
    planned = plan(options_of("tutorial"), "cpu")
    assert planned.missing == [] and planned.problems == []


def test_the_light_recipe_is_a_residual_network_of_five_slices_without_discriminators():
    options = options_of("light")
    network, train = options.network_G, options.train
    assert (network.which_model_G, network.options.in_nc, network.options.out_nc, network.slices) == (
        "residual_net",
        5,
        1,
        2,
    )
    assert train.gan_weight == train.gradient_gan_weight == train.pixel_branch_weight == 0 < train.pixel_weight


def test_what_the_light_recipe_lacks_is_said():
    (sentence,) = plan(options_of("light"), "cpu").missing
    assert "trabecular" in sentence and "path.public_data" in sentence


def test_the_full_recipe_is_unetspsr_of_the_published_size():
    network = options_of("unetspsr-full").network_G.options
    assert (network.nf, network.nb, network.gc, network.in_nc) == (64, 23, 32, 1)


def test_what_the_head_of_a_file_says_to_set_can_be_set():
    found = {}
    for path in sorted(resource("Configurations").glob("*.json")):
        head = [line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("//")]
        changes = [word.rstrip(",") for said in SAID.findall("\n".join(head)) for word in said.split() if word != "\\"]
        if changes:
            found[path.stem] = read_options(path, changes)
    assert {"arssr", "srgan3d", "srcyclegan", "perceptual-vgg-ts"} <= set(found)
    published = found["srgan3d"]
    assert published.scale == 4 and published.network_G.options.residual_blocks == 6
    assert published.network_D.options.feature_size == 32 and published.train.niter == 50000
    assert found["arssr"].network_G.options.encoder_width == 16
    assert found["srcyclegan"].network_G.options.nf == 64 and found["srcyclegan"].train.as_published
