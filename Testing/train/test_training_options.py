"""The options of a training: the published JSON, what its keys mean, what is refused, what changes are told."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.networks import NETWORKS, Registered
from CBCTSuperResLib.networks.options import option
from CBCTSuperResLib.train.checks import missing
from CBCTSuperResLib.train.options import keys_at
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.options_schema import catalogue, markdown_table, schema
from CBCTSuperResLib.train.plan import plan
from hypothesis import given
from hypothesis import strategies as st
from options_files import ROOT, printed, printed_keys, tiny

BLOCKS = ["path", "network_G", "network_D", "train", "logger", "card", "datasets__train", "datasets__val"]
TRAIN = ROOT / "Resources" / "Configurations" / "train_unetspsr.json"
TEST = ROOT / "Resources" / "Configurations" / "test_unetspsr.json"


def problems(*overrides: str, values=None, is_train=True) -> str:
    with pytest.raises(OptionError) as caught:
        read_options(tiny() if values is None else values, overrides, is_train=is_train)
    return str(caught.value)


def test_the_printed_training_options_mean_what_the_published_tables_say(tmp_path):
    path = tmp_path / "mit Leerzeichen.json"
    path.write_text(printed(0), encoding="utf-8")
    o = read_options(path)
    assert (o.name, o.model, o.scale, o.gpu_ids, o.use_tb_logger) == ("UNetSPSR", "unetspsr", 2, (0,), True)
    train, val = o.dataset("train"), o.dataset("val")
    assert (train.name, train.mode, train.batch_size, train.HR_size, train.n_workers) == ("TRAIN", "LRHR", 32, 128, 8)
    assert train.dataroot_HR == (r"\\path\to\training\HR\image\slices",)
    assert (train.use_shuffle, train.use_flip, train.use_rot, train.use_contrast) == (True,) * 4
    assert val.normalization_range == train.normalization_range == (26000, 46000)
    assert (val.name, val.phase, train.phase) == ("VAL", "val", "train")
    assert (o.network_G.options.nf, o.network_G.options.nb, o.network_G.options.gc) == (64, 23, 32)
    assert o.network_G.norm_type is None and o.network_D.which_model_D == "discriminator_unet_128"
    t = o.train
    assert (t.pixel_weight, t.feature_weight, t.gan_weight, t.pixel_branch_weight) == (0.3, 1, 5e-3, 0.5)
    assert (t.niter, t.val_freq, o.logger.save_checkpoint_freq) == (500000, 5000, 5000)
    assert all(isinstance(number, int) for number in (t.niter, t.val_freq, o.logger.save_checkpoint_freq))
    assert (t.gan_type, t.manual_seed, t.Branch_pretrain, t.Branch_init_iters) == ("lsgan", 6, False, 5000)
    assert t.lr_steps == (50000, 100000, 200000, 300000)


def test_the_printed_test_options_are_read_and_have_one_test_set(tmp_path):
    path = tmp_path / "test.json"
    path.write_text(printed(1), encoding="utf-8")
    o = read_options(path, is_train=False)
    assert o.tests == ("test_1",) and o.dataset("test_1").name == "test_name" and o.notes == ()
    assert o.results_folder.parts[-2:] == ("results", "UNetSPSR")


def test_every_key_of_the_published_tables_is_an_option():
    values = read_options(TRAIN).to_json()
    for key in printed_keys():
        block = values
        for part in key.replace("datasets.test_1", "datasets.val").split("."):
            block = block[part]


@pytest.mark.parametrize("path, is_train", [(TRAIN, True), (TEST, False)], ids=["train", "test"])
def test_our_examples_are_the_printed_options_but_for_folders(path, is_train, tmp_path):
    (tmp_path / "printed.json").write_text(printed(0 if is_train else 1), encoding="utf-8")
    theirs, ours = (read_options(file, is_train=is_train) for file in (tmp_path / "printed.json", path))
    places = ("dataroot_", "path.", "network_D.norm_type", "network_D.act_type", "network_D.mode")
    assert [change for change in theirs.differences(ours) if not any(place in change for place in places)] == []


def test_ignored_keys_of_the_discriminator_are_told_once_and_only_where_they_are_given():
    given_keys = {"norm_type": "batch", "act_type": "leakyrelu", "mode": "CNA"}
    notes = read_options(tiny(network_D={"nf": 4, **given_keys})).notes
    assert len(notes) == 1 and all(key in notes[0] for key in given_keys)
    assert read_options(tiny()).notes == ()
    vgg = tiny(network_D={"which_model_D": "discriminator_vgg_128", **given_keys}, datasets__train__HR_size=128)
    assert read_options(vgg).notes == ()


def test_options_written_out_are_complete_and_read_back_equal():
    o = read_options(tiny(network_D={"nf": 8}, datasets__val__slices=[2, 9], train__manual_seed=None))
    values = json.loads(json.dumps(o.to_json()))
    assert read_options(values) == o
    for field in dataclasses.fields(o.train):
        assert field.name in values["train"]
    assert values["network_D"]["nf"] == 8 and values["datasets"]["val"]["slices"] == [2, 9]
    assert read_options(read_options(tiny()).to_json()) == read_options(tiny())


@given(
    st.integers(1, 64), st.sampled_from([1, 2, 4]), st.floats(0, 10), st.booleans(), st.sampled_from([None, (), (1, 0)])
)
def test_any_options_read_back_equal(batch, scale, weight, flag, gpus):
    ids = "auto" if gpus is None else list(gpus)
    changes = dict(scale=scale, gpu_ids=ids, datasets__train__batch_size=batch, datasets__train__use_flip=flag)
    o = read_options(tiny(train__pixel_weight=weight, **changes))
    assert o.gpu_ids == gpus and read_options(json.loads(json.dumps(o.to_json()))) == o


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    *(f"{block}__{name}" for block in BLOCKS for name in keys_at(tuple(block.split("__")))),
    *keys_at(()),
    *BLOCKS,
    "datasets",
    "datasets__train__x",
]


@given(st.dictionaries(st.sampled_from(PLACES), ANY_JSON, min_size=1, max_size=4), st.booleans())
def test_whatever_a_file_holds_it_is_read_or_refused_in_words(changes, is_train):
    values = tiny()
    for place, value in changes.items():
        *path, key = place.split("__")
        block = values
        for part in path:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict):
            block[key] = value
    try:
        o = read_options(values, is_train=is_train)
    except OptionError as error:
        assert str(error)
    else:
        assert read_options(json.loads(json.dumps(o.to_json())), is_train=is_train) == o
        plan(o).text() if is_train else missing(o)


def test_differences_are_sentences_and_leave_out_what_changes_no_number():
    before = read_options(tiny())
    after = read_options(
        tiny(), ["train.lr_G=2e-4", "logger.print_freq=3", "datasets.train.n_workers=5", "gpu_ids=auto"]
    )
    assert before.differences(after) == ["train.lr_G: 0.0001 -> 0.0002"]
    assert before.differences(read_options(tiny(), ["datasets.val=null"])) == ["datasets.val: present -> absent"]
    window = before.differences(read_options(tiny(), ["datasets.train.normalization_range=[0, 9]"]))
    assert [change.partition(":")[0] for change in window] == [
        "datasets.train.normalization_range",
        "datasets.val.normalization_range",
    ]


def test_what_the_program_chose_is_no_difference_to_what_was_left_to_it():
    left_open = read_options(tiny(train__manual_seed=None))
    assert left_open.train.manual_seed is None
    chosen = read_options(tiny(train__manual_seed=17, datasets__train__micro_batch=2))
    assert left_open.differences(chosen) == chosen.differences(left_open) == []
    assert chosen.differences(read_options(tiny(train__manual_seed=18))) == ["train.manual_seed: 17 -> 18"]


def test_null_weights_are_zero_and_null_gpu_ids_the_cpu():
    o = read_options(tiny(gpu_ids=None, train__gan_weight=None, train__feature_weight=None, train__lr_G=None))
    assert o.gpu_ids == () and o.train.gan_weight == 0 and o.train.feature_weight == 0 and o.train.lr_G == 1e-4


def test_debug_in_the_name_makes_everything_frequent_unless_the_command_line_says_otherwise():
    o = read_options(tiny(name="debug_1", use_tb_logger=True), ["train.val_freq=4"])
    assert (o.train.val_freq, o.logger.print_freq, o.logger.save_checkpoint_freq) == (4, 2, 8)
    assert not o.use_tb_logger and "debug" in o.notes[0]


def test_patches_of_a_network_on_folded_pixels_are_whole_folds():
    """Otherwise the first step would end in a message of PyTorch."""
    quiet = {"pixel_branch_weight": 0, "gan_weight": 0, "gradient_gan_weight": 0, "feature_weight": 0}
    for network, fold in (("residual_net", 2), ("unetspsr_net", 4)):
        values = tiny(train={**quiet, "niter": 3}, network_G={"which_model_G": network, "nf": 16, "unshuffle": fold})
        values["datasets"]["train"]["HR_size"] = 36 if fold == 4 else 34
        with pytest.raises(OptionError, match=f"HR_size must be a multiple of {2 * fold}, scale times .*unshuffle"):
            read_options(values)
        values["datasets"]["train"]["HR_size"] = 40
        assert read_options(values).network_G.options.unshuffle == fold


def test_without_a_val_set_there_is_a_note_and_test_sets_are_not_used_while_training():
    values = tiny(datasets__test_2={"mode": "HR", "procedural": 1})
    del values["datasets"]["val"]
    o = read_options(values)
    assert o.dataset("val") is None and any("datasets.val" in note for note in o.notes)
    assert any("test_2" in note for note in o.notes)


def test_a_test_needs_a_test_set_and_a_training_a_train_set():
    assert "datasets.test_" in problems(is_train=False)
    assert "datasets.train" in problems(values={"datasets": {"test_1": {"mode": "HR", "procedural": 1}}})
    read_options({"datasets": {"test": {"dataroot_LR": "x"}}}, is_train=False)


def test_folders_are_where_the_published_code_has_them():
    o = read_options(tiny(path__root="/tmp/some where"))
    assert o.run_folder.as_posix() == "/tmp/some where/experiments/tiny"
    assert o.results_folder.as_posix() == "/tmp/some where/results/tiny"


def test_a_home_folder_is_expanded_and_windows_paths_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    windows = r"C:\scans\HR"
    o = read_options(tiny(path__root="~/runs", datasets__train__dataroot_HR=[windows, r"\\server\share//HR"]))
    assert o.run_folder == tmp_path / "runs" / "experiments" / "tiny"
    assert o.dataset("train").dataroot_HR == (windows, r"\\server\share//HR")


OLD = {  # keys of version 0.1.0 that are gone, each as it was written where nobody had changed it
    "network_D_grad": None,
    "network_G__branch_taps": None,
    "network_D__skip_connection": True,
    "train__gan_relativistic": True,
    "train__gradient_padding": None,
    "train__D_update_ratio": 1,
    "train__D_init_iters": 0,
    "datasets__train__clip_lr": True,
    "datasets__val__clip_lr": True,
    "datasets__train__contrast": [0.8, 1.2],
    "datasets__train__brightness": [-0.1, 0.1],
    "datasets__train__gamma": [0.8, 1.25],
}
CHANGED = {"network_D_grad": {"nf": 8}, "network_G__branch_taps": [1, 2, 3, 4], "train__D_init_iters": 3}
CHANGED |= {"datasets__train__gamma": [0.9, 1.1], "datasets__val__clip_lr": False, "network_D__skip_connection": False}


def test_a_file_of_the_old_version_with_keys_that_are_gone_is_read_and_they_are_told():
    o = read_options(tiny(**OLD))
    assert o == read_options(tiny()) and len(o.notes) == 1
    assert all(name.replace("__", ".") in o.notes[0] for name in OLD)


@pytest.mark.parametrize(("name", "value"), CHANGED.items(), ids=CHANGED)
def test_a_key_that_is_gone_is_refused_with_another_value_than_what_is_now_done(name, value):
    dotted = name.replace("__", ".")
    for told in (problems(values=tiny(**{name: value})), problems(f"{dotted}={json.dumps(value)}")):
        assert f"{dotted} is gone since version 0.1.0" in told and "because" in told


def test_a_key_of_another_network_is_accepted_and_told_unless_it_is_as_that_network_has_it():
    residual = {"which_model_G": "residual_net", "nf": 8, "nb": 2}
    weights = dict(train__pixel_branch_weight=0)
    assert read_options(tiny(network_G={**residual, "gc": 32, "taps": None}, **weights)).notes == ()
    (note,) = read_options(tiny(network_G={**residual, "gc": 16}, **weights)).notes
    assert note == "network_G.gc has no effect beside residual_net."


@dataclasses.dataclass(frozen=True)
class RippleOptions:
    """Of a network that is none of ours."""

    waves: int = option(3, "Waves.", minimum=1)
    height: float = option(0.5, "Their height.", above=0)
    scale: int = option(2, "Factor.", derived=True)

    def check(self) -> None:
        if self.waves * self.height > 10:
            raise ValueError(f"waves {self.waves} are too many for this height.")


def test_an_added_network_brings_its_keys_checks_schema_and_table_with_it(monkeypatch):
    monkeypatch.setitem(NETWORKS, "ripple", Registered("nowhere:Ripple", RippleOptions))
    values = tiny(network_G={"which_model_G": "ripple_net", "waves": 4}, scale=4, train__pixel_branch_weight=0)
    o = read_options(values)
    assert o.network_G.network == "ripple" and o.network_G.options == RippleOptions(waves=4, height=0.5, scale=4)
    assert read_options(o.to_json()) == o and o.to_json()["network_G"]["height"] == 0.5
    told = problems("network_G.wavs=3", "network_G.height=0", values=values)
    assert "did you mean network_G.waves?" in told and "network_G.height must be a number > 0" in told
    assert "network_G.waves 99 are too many" in problems("network_G.waves=99", values=values)
    assert "network_G.waves" in {entry.name for entry in catalogue()} and "`network_G.waves` †" in markdown_table()
    assert "ripple_net" in schema()["properties"]["network_G"]["properties"]["which_model_G"]["enum"]


def test_reading_options_needs_neither_torch_nor_any_other_package():
    code = (
        "import sys; from CBCTSuperResLib.train import checks, options, run_folder; "
        "from CBCTSuperResLib.train.options_file import read_options; import json; "
        f"o = read_options(json.loads({json.dumps(json.dumps(tiny()))})); checks.missing(o); "
        "print({'torch', 'cv2', 'tqdm', 'pydantic', 'matplotlib', 'safetensors'} & set(sys.modules))"
    )
    environment = {"PYTHONPATH": str(ROOT / "CBCTSuperRes"), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "set()", done.stderr
