"""Along axes that are not made finer a network of any factor is not told to undo the scanner's blur."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.phantom import WINDOW, jaw_phantom, to_grey
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur
from CBCTSuperResLib.apply.conditions import Conditions
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.networks import build_network

USUAL = 0.3


def card(least: float) -> ModelCard:
    """Of a model that is told of a blur of `least` to 0.8 voxels."""
    spec = build_network("any_size", nf=4, nb=1, conditions=("blur", "noise")).describe()
    scanner = {"kind": "block", "blur": [least, USUAL, 0.8], "noise": [0.0, 0.04]}
    return ModelCard("any", spec, window=WINDOW, training={"data": {"degradation": scanner}})


@pytest.fixture(scope="module")
def told():
    """Blur that the network is told along (k, j, i), for options."""
    field = gaussian_blur(jaw_phantom((12, 64, 64), 0.3, 904), 0.7, ALL_AXES)
    scan = Volume(to_grey(field), Grid((64, 64, 12), (0.3, 0.3, 0.9)))
    model = card(0.1)

    def of(**options):
        plan = make_plan(scan.grid, scan.voxels.dtype, model, Options(**options)).with_scan(scan)
        return [axis.blur for axis in plan.axes], plan.conditions.reason

    return of


def test_an_axis_keeps_its_blur_unless_it_is_made_finer(told):
    (across, *within), reason = told(scale=(1.0, 1.0, 3.0))
    assert within == [0.1, 0.1] and "not made finer it stays" in reason
    everywhere, reason = told(scale=(2.0, 2.0, 2.0))
    assert everywhere[0] == across and min(everywhere[1:]) > 0.1 and "not made finer" not in reason


def test_a_blur_that_was_given_is_told_along_all_axes(told):
    blur, _ = told(scale=(1.0, 1.0, 3.0), scanner_blur=0.3)
    assert np.allclose(blur, [0.3 / 2.3548 / 0.9, *[0.3 / 2.3548 / 0.3] * 2], rtol=0.01)


def test_a_scan_that_does_not_tell_its_blur_is_told_what_is_usual_as_long_in_mm_along_all_axes():
    """No object has made that larger than it is, so nothing is taken off it."""
    conditions = Conditions((USUAL,) * 3, (0.0,) * 3, (0.1,) * 3, 0.02, 0.02, "usual", "It does not tell.")
    model = card(0.05)
    cubic, thick = (conditions.of_blocks((False,) * 3, (k, 0.3, 0.3), model).told_blur for k in (0.3, 0.9))
    assert cubic == (USUAL,) * 3 and thick == pytest.approx((USUAL / 3, USUAL, USUAL))
    kept = conditions.of_blocks((False, True, True), (0.9, 0.3, 0.3), model).told_blur
    assert kept == pytest.approx((USUAL / 3, 0.05, 0.05))
    assert conditions.of_blocks((False,) * 3, (3.0, 0.3, 0.3), model).told_blur[0] == 0.05, "the least that it knows"
    little = replace(conditions, source="little").of_blocks((False,) * 3, (0.9, 0.3, 0.3), model)
    assert little.told_blur == thick
    for source in ("given", "estimated"):
        sure = replace(conditions, source=source)
        assert sure.of_blocks((False,) * 3, (0.9, 0.3, 0.3), model).told_blur == sure.told_blur
