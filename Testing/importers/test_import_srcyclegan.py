"""SR-CycleGAN's generators: read by the names of their tensors, refused where they are others, written back."""

from __future__ import annotations

import pytest
import torch
from CBCTSuperResLib import Options, importers, super_resolve
from CBCTSuperResLib.core.errors import ModelError
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.srcyclegan import SRCycleGANBack
from fixtures_srcyclegan import fill
from scans import make_scan


def file_of(network, tmp_path, name="200_net_G_A.pth"):
    torch.save(network.float().state_dict(), tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("scale", [4, 8])
def test_the_enlarging_generator_is_read_with_its_factor_and_written_back(tmp_path, scale):
    network = fill(build_network("srcyclegan", nf=8, nb=9, scale=scale, upsampling="PS"), "G_A.").float()
    path = file_of(network, tmp_path)
    model = importers.import_checkpoint(path, window=(-1000, 500))
    assert model.spec.scale == (scale, scale) and model.spec.options["nb"] == 9 and model.spec.context == "global"
    assert model.card.window == (-1000, 500) and model.card.output_window == (0, 15000)
    assert any("15000" in note for note in model.card.training["notes"])
    x = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(model.network(x)["sr"], network(x)["sr"])
    back = torch.load(importers.export_checkpoint(model, tmp_path / "back.pth"), weights_only=True)
    assert list(back) == list(network.state_dict())
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in back.items())


def test_an_imported_generator_is_applied_to_whole_slices_in_the_fine_scanners_grey_values(tmp_path):
    network = fill(build_network("srcyclegan", nf=8, nb=2, scale=2, upsampling="PS"), "G_A.").float()
    model = importers.import_checkpoint(file_of(network, tmp_path), window=(0, 4000))
    model = Model.load(model.save(tmp_path / "m.safetensors"))
    result = super_resolve(make_scan((2, 20, 24)), model, Options(window=(0, 4000), dtype="uint16"))
    assert result.voxels.shape == (2, 40, 48) and result.voxels.max() > 4000


def test_other_generators_are_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match="from fine to coarse"):
        importers.import_checkpoint(file_of(SRCycleGANBack(nf=8, nb=2, scale=4), tmp_path))
    deep = build_network("srcyclegan", nf=8, nb=2, scale=2, upsampling="PS").state_dict()
    with pytest.raises(ModelError, match="not those of an SR-CycleGAN"):
        torch.save({**deep, "model.99.bias": torch.zeros(3)}, tmp_path / "odd.pth")
        importers.import_checkpoint(tmp_path / "odd.pth")
    with pytest.raises(ModelError, match="neither taps nor a fixed scale"):
        importers.import_checkpoint(
            file_of(build_network("srcyclegan", nf=8, nb=1, scale=2, upsampling="PS"), tmp_path), scale=2
        )
    ours = build_network("srcyclegan", nf=8, nb=1, scale=2)
    card = ModelCard(name="ours", spec=ours.describe(), output_window=(0, 1))
    with pytest.raises(ModelError, match="upsampling PS"):
        importers.export_checkpoint(Model(ours, card), tmp_path / "x.pth")
