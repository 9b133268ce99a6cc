"""ArSSR's files are known by their names, read safely, computed as the original does, and written back bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.cli import main
from CBCTSuperResLib.core.errors import ModelError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.importers import export_checkpoint, import_checkpoint
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.train.starting_weights import starting_weights
from fixtures_arssr import LEGACY, published_state
from stub_networks import stub_model
from torch.nn import functional as F

ENCODERS = ("RDN", "ResCNN", "SRResNet")
SIZES = {"features": 16, "depth": 4, "width": 64}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The three files as they are published, with filled weights."""
    folder = tmp_path_factory.mktemp("published")
    for encoder in ENCODERS:
        torch.save(published_state(encoder, **SIZES), folder / f"ArSSR_{encoder}.pkl")
    return folder


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_of_the_three_files_goes_in_and_out_bit_by_bit(files, tmp_path, encoder):
    path = files / f"ArSSR_{encoder}.pkl"
    model = import_checkpoint(path, window=(0, 1000))
    options, spec = model.spec.options, model.spec
    assert (options["encoder_name"], options["feature_dim"]) == (encoder, 16)
    assert (options["decoder_depth"], options["decoder_width"]) == (4, 64)
    assert {name: options[name] for name in LEGACY} == LEGACY
    assert spec.scale_range == ((2.0, 4.0),) * 3 and spec.absolute and spec.can_be_cut
    assert model.card.training["layout"] == "ArSSR" and "0 to 1" in model.card.training["notes"][-1]
    written = torch.load(export_checkpoint(model, tmp_path / "out.pkl"), weights_only=True)
    state = torch.load(path, weights_only=True)
    assert list(written) == list(state) and all(torch.equal(written[name], state[name]) for name in state)


def test_the_full_size_is_read_from_the_shapes(tmp_path):
    torch.save({"state_dict": published_state("ResCNN")}, tmp_path / "a.pkl")
    options = import_checkpoint(tmp_path / "a.pkl").spec.options
    assert (options["feature_dim"], options["decoder_depth"], options["decoder_width"]) == (128, 8, 256)


def test_a_part_of_a_network_is_called_a_part(files, tmp_path):
    state = torch.load(files / "ArSSR_ResCNN.pkl", weights_only=True)
    for part, message in (
        ("encoder.", r"incomplete: decoder\.stage_one\.0\.weight is missing"),
        ("decoder.", "without its encoder"),
    ):
        torch.save({name: tensor for name, tensor in state.items() if name.startswith(part)}, tmp_path / "part.pkl")
        with pytest.raises(ModelError, match=message):
            import_checkpoint(tmp_path / "part.pkl")


def test_a_name_or_window_that_is_none_is_refused_before_anything_is_written(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(tmp_path / "models"))
    for words, message in (
        (["--name", "../elsewhere"], "is a path, not a name"),
        (["--window", "5", "5"], "lower bound 5 is not below its upper bound 5"),
    ):
        assert main(["models", "import", str(files / "ArSSR_ResCNN.pkl"), *words]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_imports_applies_and_exports(files, tmp_path, capsys):
    """What comes out of a volume is what the original's own formulas give, at a real factor."""
    assert main(["models", "import", str(files / "ArSSR_ResCNN.pkl"), "--out", str(tmp_path / "m.safetensors"),
                 "--window", "0", "1000"]) == 0  # fmt: skip
    assert main(["models", "export", str(tmp_path / "m.safetensors"), str(tmp_path / "back.pkl")]) == 0
    capsys.readouterr()
    model = Model.load(tmp_path / "m.safetensors")
    voxels = np.random.default_rng(0).uniform(50, 950, (6, 7, 8)).astype(np.float32)
    volume = Volume(voxels, Grid((8, 7, 6), (0.3, 0.3, 0.3)))
    options = Options(scale=2.5, window=(0, 1000), blank="none", back_projection="off", device="cpu")
    found = super_resolve(volume, model, options).voxels
    assert found.shape == (15, 18, 20)

    with torch.inference_mode():
        features = model.network.encoder(torch.from_numpy(voxels / 1000)[None, None])
        centres = [(2 * torch.arange(n) + 1) / n - 1 for n in found.shape]
        points = torch.stack(torch.meshgrid(*centres, indexing="ij"), -1).view(-1, 3)
        sampled = F.grid_sample(features, points.flip(-1)[None, :, None, None], align_corners=False)
        values = torch.cat((sampled[0, :, :, 0, 0].T, points), 1)
        state = torch.load(tmp_path / "back.pkl", weights_only=True)

        def stage(name: str, x: torch.Tensor) -> torch.Tensor:
            for layer in (0, 2):
                key = f"decoder.stage_{name}.{layer}"
                x = F.relu(F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"]))
            return x

        expected = stage("two", values + stage("one", values)).view(found.shape).numpy()
    inside = expected < 1
    assert inside.mean() > 0.5 and expected.std() > 0.05
    np.testing.assert_allclose(found[inside] / 1000, expected[inside], atol=1e-5)


def test_a_part_of_a_volume_is_the_crop_of_the_whole(files):
    """Also of a network whose decoder is told where in the whole volume a place lies."""
    model = import_checkpoint(files / "ArSSR_ResCNN.pkl", window=(0, 1000))
    voxels = np.random.default_rng(0).uniform(50, 950, (8, 8, 8)).astype(np.float32)
    volume = Volume(voxels, Grid((8, 8, 8), (0.3, 0.3, 0.3)))
    plain = {"scale": 2, "window": (0, 1000), "blank": "none", "back_projection": "off", "device": "cpu"}
    whole = super_resolve(volume, model, Options(**plain)).voxels
    part = super_resolve(volume, model, Options(**plain, roi=((4, 8), (1, 5), (3, 7)))).voxels
    assert np.abs(part - whole[6:14, 2:10, 8:16]).max() <= 1e-5 * 1000


def changed(state, drop: str = "", **changes):
    return {**{name: tensor for name, tensor in state.items() if not (drop and name.startswith(drop))}, **changes}


def test_files_of_others_are_refused_with_what_is_wrong(files, tmp_path):
    state = torch.load(files / "ArSSR_ResCNN.pkl", weights_only=True)
    other = {
        name.replace("encoder.block", "encoder.stage").replace("conv_start", "stem"): t for name, t in state.items()
    }
    wide = state["decoder.stage_one.0.weight"]
    for content, message in (
        (other, r"encoder of another kind \(.*stem.*RDN, ResCNN, SRResNet"),
        (changed(state, "encoder.block2."), "not those of an ArSSR"),
        (changed(state, "encoder.conv_end"), r"incomplete: encoder\.conv_end\.0\.weight is missing"),
        (changed(state, "encoder.conv_start"), r"incomplete: encoder\.conv_start\.0\.weight is missing"),
        (
            changed(state, **{"decoder.stage_one.0.weight": wide[:, 1:]}),
            "takes 18 numbers.* 16 features.* should be 19",
        ),
        (changed(state, **{"decoder.stage_one.0.bias": torch.full((64,), torch.nan)}), "NaN"),
        (changed(state, **{"encoder.conv_start.0.weight": torch.zeros(64, 27)}), "should have 5 axes"),
    ):
        torch.save(content, tmp_path / "x.pkl")
        with pytest.raises(ModelError, match=message):
            import_checkpoint(tmp_path / "x.pkl")
    with pytest.raises(ModelError, match="neither taps nor a fixed scale"):
        import_checkpoint(files / "ArSSR_ResCNN.pkl", scale=2)
    torch.save({"decoder": print, **state}, tmp_path / "x.pkl")
    with pytest.raises(ModelError, match="more than weights"):
        import_checkpoint(tmp_path / "x.pkl")
    ours = build_network(
        "arssr", encoder_name="ResCNN", encoder_width=4, feature_dim=4, decoder_depth=4, decoder_width=8
    )
    with pytest.raises(ModelError, match="coordinates, padding, output, residual are ours"):
        export_checkpoint(stub_model(ours), tmp_path / "y.pkl")
    assert not (tmp_path / "y.pkl").exists()


def test_a_training_may_begin_with_a_published_file(files):
    options = {"encoder_name": "ResCNN", "feature_dim": 16, "decoder_depth": 4, "decoder_width": 64}
    network = build_network("arssr", **options, **LEGACY)
    report = starting_weights(network, files / "ArSSR_ResCNN.pkl")
    assert (report.used, report.total) == (48, 48)
    state = torch.load(files / "ArSSR_ResCNN.pkl", weights_only=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(ModelError, match="do not fit the network"):
        starting_weights(build_network("arssr", **options), files / "ArSSR_ResCNN.pkl")
    other = build_network("arssr", **{**options, "encoder_name": "SRResNet", "decoder_depth": 6}, **LEGACY)
    with pytest.raises(ModelError, match="encoder_name ResCNN, .*decoder_depth 4, network_G is .*SRResNet") as refused:
        starting_weights(other, files / "ArSSR_ResCNN.pkl")
    assert len(str(refused.value)) < 500
