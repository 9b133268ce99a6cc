"""A training step of UNetSPSR is the public one, digit by digit, and one batch is one batch however it is cut."""

from __future__ import annotations

import pytest
import torch
from CBCTSuperResLib.training.recipes import build_recipe
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
