"""Values that make no sense, keys that contradict each other, and where a training can compute."""

from __future__ import annotations

import pytest
from CBCTSuperResLib.core.errors import DeviceError, OptionError
from CBCTSuperResLib.train import checks as device_module
from CBCTSuperResLib.train.checks import missing, training_device
from CBCTSuperResLib.train.options_file import read_options
from options_files import tiny

VGG = {"which_model_D": "discriminator_vgg_128", "nf": 4}
PAIRS = {"mode": "LRHR", "dataroot_HR": "a", "dataroot_LR": "b", "batch_size": 4, "HR_size": 32}


def problems(is_train=True, **changes) -> str:
    with pytest.raises(OptionError) as caught:
        read_options(tiny(**changes), is_train=is_train)
    return str(caught.value)


@pytest.mark.parametrize(
    "changes, told",
    [
        (dict(train__niter=8.5), "train.niter must be a whole number >= 1, not 8.5"),
        (dict(train__niter="8"), 'train.niter must be a whole number >= 1, not "8"'),
        (dict(train__niter=True), "not true"),
        (dict(train__lr_G=float("inf")), "train.lr_G must be a number > 0"),
        (dict(train__beta1_G=1), "train.beta1_G must be a number >= 0, < 1"),
        (dict(use_tb_logger="yes"), "use_tb_logger must be true or false"),
        (dict(train__lr_steps=[5, 5]), "train.lr_steps must ascend"),
        (dict(train__pixel_criterion="l3"), 'must be "l1" or "l2"'),
        (dict(network_G__norm_type="batch"), "the generator has no normalisation"),
        (dict(network_G__nb=3), "network_G.nb must be a whole number >= 4"),
        (dict(scale=5), "scale must be one of 1, 2, 3, 4, 8"),
        (dict(gpu_ids=[0, 0]), "names a device twice"),
        (dict(gpu_ids=[-1]), "gpu_ids"),
        (dict(name="a/b"), "cannot be the name of a folder"),
        (dict(name=" "), "name must be a text"),
        (dict(datasets__train__normalization_range=[46000, 26000]), "must ascend"),
        (dict(datasets__train__slices=[3, 3]), "must ascend"),
        (dict(datasets__train__dataroot_HR=[]), "empty list"),
        (dict(datasets__train=[]), "datasets.train must be a block"),
        (dict(train=3), "train must be a block"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, told):
    assert told in problems(**changes)


@pytest.mark.parametrize(
    "changes, told",
    [
        (dict(datasets__train__HR_size=33), "multiple of scale 2, not 33"),
        (dict(datasets__train__HR_size=36), "multiple of 8 for discriminator_unet_128, not 36"),
        (dict(network_D=VGG), "128 to 159 for discriminator_vgg_128, not 32"),
        (dict(network_D=VGG, datasets__train__HR_size=158), "gradient maps have 160"),
        (dict(network_D=VGG, datasets__train__HR_size=158, train__gan_weight=0), "gradient maps have 160"),
        (dict(network_D={**VGG, "norm_type": "spectral"}, datasets__train__HR_size=128), 'must be "batch"'),
        (dict(datasets__train__micro_batch=3), "micro_batch must divide batch_size 4"),
        (dict(network_G__taps=[1, 2, 3, 5]), "reach beyond the 4 blocks"),
        (dict(network_G__out_nc=3), "in_nc must be 3 where out_nc is 3, not 1"),
        (dict(network_D__in_nc=3), "network_D.in_nc must be network_G.out_nc, 1, not 3"),
        (dict(datasets__train__dataroot_LR="x"), "mode HR simulates LR"),
        (dict(datasets__train={**PAIRS, "dataroot_LR": None}), "dataroot_LR is missing, which mode LRHR needs"),
        (dict(datasets__train={**PAIRS, "dataroot_HR": None}), "dataroot_HR is missing, which mode LRHR needs"),
        (dict(datasets__train={**PAIRS, "dataroot_HR": ["a", "c"]}), "as many entries, not 2 and 1"),
        (dict(datasets__train={**PAIRS, "procedural": 3}), "procedural needs mode HR"),
        (dict(datasets__train={**PAIRS, "public": ["tooth"]}), "public needs mode HR"),
        (dict(datasets__train__procedural=0), "has no images"),
        (dict(datasets__train__degradation_options={"shift": 1}), 'belong to degradation "physical"'),
        (dict(datasets__train__patient_pattern="(a)(b)"), "one group"),
        (dict(datasets__train__patient_pattern="(a"), "one group"),
        (dict(train__warmup_iters=9), "train.warmup_iters must not exceed train.niter 8"),
        (dict(train__feature_weight=1, datasets__train__HR_size=8), "at least 16 for train.feature_weight"),
        (dict(train__gan_type="wgan-gp"), "gradient penalty does not work"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(changes, told):
    assert told in problems(**changes)


def test_nothing_to_learn_is_refused():
    weights = ("pixel", "gan", "gradient_pixel", "gradient_gan", "pixel_branch")
    assert "nothing to learn" in problems(**{f"train__{name}_weight": 0 for name in weights})


def test_a_key_that_is_wrong_by_itself_is_not_told_again_as_a_contradiction():
    assert "problems" not in problems(datasets__train__HR_size="big", network_D=VGG)


def test_a_discriminator_of_weight_zero_may_have_any_size():
    read_options(tiny(network_D=VGG, train__gan_weight=0, train__gradient_gan_weight=0, datasets__train__HR_size=32))
    read_options(tiny(network_D=VGG, train__gradient_gan_weight=0, datasets__train__HR_size=158))
    read_options(tiny(datasets__train__HR_size=36, train__gan_weight=0, train__gradient_gan_weight=0))


def test_gradient_maps_are_padded_as_their_discriminator_needs():
    assert read_options(tiny()).network_D.options.gradient_padding == 1
    vgg = read_options(tiny(network_D=VGG, datasets__train__HR_size=128))
    assert vgg.network_D.options.gradient_padding == 2


def test_low_resolution_alone_is_enough_to_test_but_not_to_train():
    alone = {"mode": "LRHR", "dataroot_LR": "x"}
    assert read_options(tiny(datasets__test_1=alone), is_train=False).tests == ("test_1",)
    assert "datasets.val.dataroot_HR is missing" in problems(datasets__val=alone)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_devices_are_what_gpu_ids_device_and_command_line_say_together(count, monkeypatch):
    monkeypatch.setattr(device_module, "_cuda_devices", lambda: count)

    def where(asked=None, **changes):
        try:
            return str(training_device(read_options(tiny(**changes)), asked))
        except DeviceError:
            return "refused"

    first = "cuda:0" if count else "refused"
    assert where(gpu_ids=[]) == where(gpu_ids=None) == where("cpu", gpu_ids=[0]) == "cpu"
    assert where(gpu_ids="auto") == ("cuda:0" if count else "cpu")
    assert where(gpu_ids=[0]) == where("auto", gpu_ids=[0]) == where("cuda", gpu_ids=[]) == first
    assert where(gpu_ids=[0], device="cpu") == "cpu" and where(gpu_ids=[], device="cuda") == first
    assert where(gpu_ids=[1, 0]) == ("cuda:1, cuda:0" if count == 2 else "refused")
    assert where("cuda:1", gpu_ids=[0]) == ("cuda:1" if count == 2 else "refused")


def test_missing_gpus_are_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(device_module, "_cuda_devices", lambda: 0)
    with pytest.raises(DeviceError, match=r"gpu_ids \[0\].*no CUDA device.*--device cpu"):
        training_device(read_options(tiny(gpu_ids=[0])))


def test_short_precisions_unequal_shares_and_unknown_devices_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(device_module, "_cuda_devices", lambda: 3)
    with pytest.raises(OptionError, match="float16 is for CUDA"):
        training_device(read_options(tiny(train__precision="float16")))
    assert str(training_device(read_options(tiny(train__precision="bfloat16")))) == "cpu"
    with pytest.raises(OptionError, match="batch_size 4 cannot be shared evenly by 3"):
        training_device(read_options(tiny(gpu_ids=[0, 1, 2])))
    for name in ("mps", "cuda:", "cuda:x", "cpu:1"):
        with pytest.raises(OptionError, match="no device"):
            training_device(read_options(tiny()), name)


def test_everything_that_is_not_there_is_told_with_its_key(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    pairs = {**PAIRS, "dataroot_HR": str(tmp_path / "empty"), "dataroot_LR": str(tmp_path / "no"), "subset_file": "no"}
    changes = dict(datasets__train=pairs, train__feature_weight=1, path__pretrain_model_G="no.pth")
    told = missing(read_options(tiny(**changes, path__resume_state="1.state", path__root=str(tmp_path / "file" / "x"))))
    for part in (
        "dataroot_HR: the folder",
        "dataroot_LR: there is no",
        "subset_file",
        "--feature-weights",
        "pretrain_model_G",
        "resume_state",
        "path.root",
    ):
        assert sum(part in sentence for sentence in told) == 1, part
    assert len(told) == 7


def test_nothing_is_missing_where_everything_is_there(tmp_path):
    assert missing(read_options(tiny(path__root=str(tmp_path / "new" / "folder"), path__resume_state="auto"))) == []


def test_a_test_without_a_model_misses_one_and_takes_the_runs(tmp_path):
    values = tiny(path__root=str(tmp_path), datasets__test_1={"mode": "HR", "procedural": 1})
    assert "no model to test" in missing(read_options(values, is_train=False))[0]
    models = read_options(values, is_train=False).run_folder / "models"
    models.mkdir(parents=True)
    (models / "latest_G.safetensors").touch()
    assert missing(read_options(values, is_train=False)) == []


def test_public_scans_that_are_not_at_hand_are_missing(tmp_path):
    public = {"mode": "HR", "public": ["trabecular"], "batch_size": 4, "HR_size": 32}
    told = missing(read_options(tiny(datasets__train=public, path__root=str(tmp_path))))
    assert len(told) == 1 and "public_data" in told[0]
