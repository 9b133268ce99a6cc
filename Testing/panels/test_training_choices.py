"""What is chosen in the training panel and what is wrong with it, without any widget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.train.options_file import read_options, write_options
from options_files import printed
from scans import make_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def choices(application, scene, training_module, tmp_path):
    """The first preset, and no scans."""
    from CBCTSuperResLib.panels.training.choices import TrainingChoices
    from CBCTSuperResLib.panels.training.parameters import TrainingParameters

    made = TrainingChoices(training_module.CBCTSuperResTrainingLogic())
    made.parameters = TrainingParameters(made.logic.getParameterNode())
    made.parameters.resultsFolder = tmp_path / "L\u00e4ufe 1"
    return made


def type_in(choices, name: str, text: str) -> None:
    """Set a key to what somebody types."""
    from CBCTSuperResLib.train.options_file import value_of_text

    choices.change({name: value_of_text(name, text)})


def value(choices, name: str):
    from CBCTSuperResLib.train.options_file import value_at

    return value_at(choices.values(), name)


def add_volume(name: str, shape=(4, 24, 28)):
    from apply_helpers import add_scan

    return add_scan(name, shape)


def rows(*rows) -> list:
    from CBCTSuperResLib.panels.training.data_rows import makeRow

    return [makeRow(*row) for row in rows]


def test_values_are_read_as_they_are_typed(choices):
    for name, text, expected in (
        ("train.lr_D", "3e-4", 3e-4),
        ("train.lr_steps", "[10, 20]", [10, 20]),
        ("train.deterministic", "false", False),
        ("train.ema_decay", "", None),
        ("train.gan_type", "vanilla", "vanilla"),
        ("card.title", "12", "12"),
        ("datasets.train.degradation_options", '{"noise": [0.01, 0.02]}', {"noise": [0.01, 0.02]}),
    ):
        type_in(choices, name, text)
        assert value(choices, name) == expected and choices.optionProblems() == [], name
        assert choices.problem() == ""


def test_wrong_values_are_told_with_their_keys(choices):
    for name, text, expected in (
        ("train.lr_D", "fast", "train.lr_D must be a number > 0"),
        ("train.gan_type", "wgan-gp", "choose lsgan or vanilla"),
        ("train.lr_steps", "[20, 10]", "must ascend"),
        ("train.lr_steps", "[20", "train.lr_steps must be"),
        ("logger.keep_last", "2.5", "whole number"),
        ("datasets.train.micro_batch", "3", "must divide batch_size"),
        ("datasets.train.patient_pattern", "(", "regular expression"),
    ):
        choices.choosePreset("quick-look")
        type_in(choices, name, text)
        ((keys, problem),) = choices.optionProblems()
        assert expected in problem and keys[0] == name
        assert choices.problem() == problem
    choices.choosePreset("quick-look")
    assert choices.problem() == "" and choices.presetName() == "quick-look"


def test_files_with_mistakes_are_refused_in_words(choices, tmp_path):
    from CBCTSuperResLib.panels.training.option_values import openValues

    file = tmp_path / "o.json"
    for text, expected in (
        ("{broken", "is not valid JSON"),
        ("[1, 2]", "must hold a block"),
        ('{"datasets": {"train": {"procedural": 4, "mode": "HR"}}, "train": {"lr_g": 1}}', "did you mean"),
        ('{"datasets": {"train": {"procedural": 4, "mode": "HR", "HR_size": "big"}}}', "datasets.train.HR_size must"),
        ('{"datasets": {"test_1": {"dataroot_LR": "x"}}}', "datasets.train"),
        ('{"datasets": 3}', "datasets must be a block"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(OptionError, match=expected):
            openValues(file)


def test_the_printed_options_of_unetspsr_are_taken_with_their_images(choices, tmp_path):
    from CBCTSuperResLib.panels.training.option_values import openValues

    file = tmp_path / "train 1.json"
    file.write_text("// as printed\n" + printed(0), encoding="utf-8")
    given = read_options(file).datasets["train"]
    choices.takeFile(*openValues(file))
    taken = choices.options().datasets["train"]
    assert (taken.mode, taken.normalization_range) == (given.mode, given.normalization_range)
    assert [Path(one).name for one in taken.dataroot_HR] == [Path(one).name for one in given.dataroot_HR]
    assert "There is no" in choices.problem()


def test_relative_paths_of_a_file_begin_at_its_folder(choices, tmp_path):
    from CBCTSuperResLib.panels.training.option_values import openValues

    (tmp_path / "Daten").mkdir()
    (tmp_path / "Daten" / "1.png").touch()
    file = tmp_path / "o.json"
    values = {"name": "rel", "datasets": {"train": {"mode": "HR", "dataroot_HR": "Daten"}}, "path": {"root": "runs"}}
    file.write_text(json.dumps({**values, "train": {"feature_weight": 0}}), encoding="utf-8")
    choices.takeFile(*openValues(file))
    assert choices.options().datasets["train"].dataroot_HR == (str(tmp_path / "Daten"),)
    assert choices.resultsFolder == tmp_path / "runs" and choices.options().datasets.keys() == {"train"}


def test_saved_options_are_complete_and_come_back_as_they_were(choices, tmp_path):
    from CBCTSuperResLib.panels.training.option_values import openValues

    fine = add_volume("Jaw fine", (4, 48, 56))
    choices.setRows(rows((fine, None, "train")))
    choices.change({"train.lr_steps": [10, 20], "datasets.train.HR_size": 16})
    write_options(choices.completeOptions(), tmp_path / "o.json")
    saved = read_options(tmp_path / "o.json")
    train = saved.datasets["train"]
    assert saved.train.lr_steps == (10, 20) and saved.name == choices.parameters.runName
    assert train.dataroot_HR[0].endswith(".nrrd") and list(train.normalization_range) == choices.estimatedWindow()
    assert choices.logic.missing(saved) == []
    choices.setRows([])
    choices.takeFile(*openValues(tmp_path / "o.json"))
    assert choices.readyOptions() == saved


def test_a_feature_weight_asks_for_its_file_and_a_run_for_its_folder(choices, tmp_path):
    choices.change({"train.feature_weight": 1})
    assert "path.feature_weights names no file" in choices.problem()
    (tmp_path / "vgg19.pth").touch()
    choices.change({"path.feature_weights": str(tmp_path / "vgg19.pth")})
    assert choices.problem() == ""
    choices.parameters.resultsFolder = Path("")
    assert choices.problem() == "Choose a results folder."


def test_volumes_are_not_written_only_to_plan(choices):
    choices.setRows(rows((add_volume("Jaw fine"), None, "train")))
    assert choices.logic.missing(choices.optionsToPlan()) == [] and not choices.resultsFolder.exists()


def test_unknown_keys_are_told(choices):
    choices.parameters.settings = json.dumps({**choices.settings(), "colour": "red", "network_G": 3})
    told = " ".join(text for _keys, text in choices.optionProblems())
    assert "colour is not known" in told and "network_G must be a block" in told


def test_settings_that_cannot_be_read_are_told_and_replaced_by_a_preset(choices):
    for text in ("{broken", "[1]", "3", '{"datasets": 3}', '{"datasets": {"train": 3}}'):
        choices.parameters.settings = text
        assert "cannot be read" in choices.problem() and choices.presetName() == ""
        assert choices.learnsFrom() == choices.problem()
        choices.change({"train.niter": 5})
        assert choices.parameters.settings == text
        choices.choosePreset("light")
        choices.choosePreset("quick-look")
        assert choices.problem() == "" and choices.presetName() == "quick-look"


def test_what_there_is_to_train_on_is_summed_up(choices):
    fine, coarse = add_volume("Jaw fine"), add_volume("Jaw coarse")
    drawn = "Training: 600 computer-drawn images\nValidation: 12 computer-drawn images"
    assert choices.learnsFrom() == drawn and choices.dataWarnings() == []
    choices.setRows(rows((fine, None, "train"), (coarse, None, "val")))
    assert choices.learnsFrom() == "Training: 1 fine scan\nValidation: 1 fine scan"
    choices.setRows(rows((fine, None, "train"), (fine, coarse, "train")))
    assert choices.dataWarnings() == [choices.dataProblem()]
    assert choices.learnsFrom().startswith("Training: 1 pair, 1 fine scan")
    choices.setRows([])
    assert "There is nothing to train on" in choices.mistake()


def test_a_super_resolved_volume_as_fine_scan_is_warned_of(choices, tmp_path):
    result, file = add_volume("Jaw SR x2"), make_scan().write(tmp_path / "Jaw SR x2.nrrd")
    choices.setRows(rows((result, None, "train"), (str(file), None, "val")))
    assert choices.dataWarnings() == []
    result.SetAttribute("CBCTSuperRes.report", '{"super_resolution": {}}')
    (tmp_path / "Jaw SR x2.nrrd.json").write_text('{"super_resolution": {}}', encoding="utf-8")
    first, second = choices.dataWarnings()
    assert "Jaw SR x2 is a super-resolved volume" in first and "Jaw SR x2.nrrd is a super-resolved" in second
    assert choices.dataProblem() == ""


def test_prepared_scans_are_not_to_be_mixed_with_others(choices, tmp_path):
    for folder in (tmp_path / "pair" / "HR", tmp_path / "pair" / "LR"):
        folder.mkdir(parents=True)
        make_scan().write(folder / "P1.nrrd")
    (tmp_path / "pair" / "datasets.json").write_text("{}")
    prepared = rows((str(tmp_path / "pair" / "HR" / "P1.nrrd"), str(tmp_path / "pair" / "LR" / "P1.nrrd")))
    assert prepared[0].isPreparedPair
    choices.setRows([*prepared, *rows((add_volume("Jaw"), add_volume("Jaw coarse")))])
    assert any("Prepared scans have gray values" in text for text in choices.dataWarnings())


def test_nothing_is_chosen_while_no_scene_is_followed(choices):
    choices.parameters = None
    assert choices.mistake() == choices.problem() == "No scene is open."
    assert (choices.rows(), choices.learnsFrom(), choices.presetName(), choices.kind()) == ([], "", "", None)
    assert choices.shownRun() is None and choices.whyNotResumed() == "Choose a run first."
    assert choices.seconds() is None and choices.whyNoBoard() and choices.whyNotUsed()


def test_what_a_run_can_be_resumed_for(choices):
    folder = choices.resultsFolder / "experiments" / "Lauf 1"
    folder.mkdir(parents=True)
    choices.parameters.shownRun = choices.parameters.runName = "Lauf 1"
    choices.choosePreset("quick-look")
    (folder / "status.json").write_text('{"state": "stopped", "step": 5, "niter": 9, "updated": 1.7e9}')
    assert "no checkpoint" in choices.whyNotResumed()
    (folder / "status.json").write_text('{"state": "finished", "step": 9, "niter": 9, "updated": 1.7e9}')
    assert choices.whyNotResumed() == ""
    choices.change({"train.niter": 9})
    assert "To train it longer" in choices.whyNotResumed()
    choices.parameters.runName = "Lauf 2"
    choices.change({"train.niter": 99})
    assert "To train it longer" in choices.whyNotResumed()


UNETSPSR, RESIDUAL = ("unetspsr", "unetspsr_net"), ("unetspsr", "residual_net")
OTHERS = [
    *(("arssr", "any_size_net"), ("srgan3d", "srgan3d_net"), ("perceptual", "perceptual2d_net")),
    ("srcyclegan", "srcyclegan_net"),
]


def test_a_kind_of_model_brings_its_first_preset_and_keeps_scans_folders_and_device(choices, tmp_path):
    from CBCTSuperResLib.panels.training.choices import CPU
    from CBCTSuperResLib.panels.training.texts import kindText

    assert choices.kinds() == [UNETSPSR, RESIDUAL, *OTHERS] and choices.kind() == UNETSPSR
    assert choices.presets() == ["quick-look", "unetspsr-full"]
    file = str(make_scan().write(tmp_path / "Z\u00e4hne 1.nrrd"))
    choices.setRows(rows((file, None, "train")))
    choices.chooseDevice(CPU)
    choices.change({"path.feature_weights": "/vgg.pth"})
    choices.chooseKind(RESIDUAL)
    assert (choices.kind(), choices.presets(), choices.presetName()) == (RESIDUAL, ["light"], "light")
    options = choices.options()
    assert options.datasets["train"].dataroot_HR == (file,) and options.datasets["train"].public == ()
    assert options.path.feature_weights == "/vgg.pth" and choices.device() == CPU
    choices.change({"train.niter": 7})
    choices.chooseKind(RESIDUAL)  # which it is already
    assert choices.presetName() == "" and value(choices, "train.niter") == 7
    choices.change({"network_G.which_model_G": "another_net"})
    assert choices.kinds() == [UNETSPSR, RESIDUAL, *OTHERS, ("unetspsr", "another_net")] and choices.presets() == []
    assert kindText(choices.kind()) == "unetspsr + another_net" and kindText(RESIDUAL).startswith("Residual")


def test_every_kind_and_preset_is_a_training_that_may_begin_once_it_has_data(choices):
    from CBCTSuperResLib.panels.training.texts import kindText, presetText
    from CBCTSuperResLib.train.options_file import PRESETS

    for name in PRESETS:
        choices.choosePreset(name)
        assert choices.optionProblems() == [] and choices.presetName() == name
        assert choices.kind() in choices.kinds() and name in choices.presets()
        assert " + " not in kindText(choices.kind()) and name not in presetText(name, None)


def test_a_volume_of_the_table_is_what_a_3d_srgan_learns_from(choices, tmp_path):
    file = str(make_scan().write(tmp_path / "scan.nrrd"))
    choices.setRows(rows((file, None, "train"), (file, None, "val")))
    choices.chooseKind(OTHERS[1])
    options = choices.options()
    assert (options.model, options.network_G.which_model_G, options.scale) == ("srgan3d", "srgan3d_net", 2)
    train, val = options.datasets["train"], options.datasets["val"]
    assert (train.dataroot_HR, train.procedural, val.dataroot_HR, val.procedural) == ((file,), 0, (file,), 0)
    assert choices.optionProblems() == []


def test_scans_of_two_scanners_in_a_row_are_what_sr_cyclegan_learns_from_and_no_pair_for_others(choices):
    coarse, fine = add_volume("clinic", (4, 40, 44)), add_volume("micro", (3, 130, 120))
    choices.setRows(rows((fine, coarse, "train")))
    assert "no pair" in choices.dataProblem()
    choices.chooseKind(OTHERS[-1])
    assert choices.presetName() == "srcyclegan" and choices.dataProblem() == ""
    choices.setRows(rows((fine, coarse, "train"), (fine, coarse, "val")))
    assert "no pair" in choices.dataProblem()  # what is measured needs its truth


def test_a_gpu_is_offered_where_there_is_one_or_where_a_file_has_asked_for_it(choices, monkeypatch):
    from CBCTSuperResLib.panels.training import choices as module

    monkeypatch.setattr(module, "count_gpus", lambda: 1)
    assert choices.devices() == [module.AUTOMATIC, module.CPU, module.GPU]
    choices.chooseDevice(module.GPU)
    assert (value(choices, "device"), value(choices, "gpu_ids")) == ("cuda", "auto") and choices.problem() == ""
    monkeypatch.setattr(module, "count_gpus", lambda: 0)
    assert choices.devices()[-1] == module.GPU and choices.problem().startswith("This computer has no graphics card")
    for device, expected in ((module.CPU, ("auto", [])), (module.AUTOMATIC, ("auto", "auto"))):
        choices.chooseDevice(device)
        assert (value(choices, "device"), value(choices, "gpu_ids")) == expected and choices.device() == device
        assert choices.devices() == [module.AUTOMATIC, module.CPU] and choices.problem() == ""


def test_the_time_of_preset_and_settings_is_the_one_that_was_measured(choices, monkeypatch):
    from CBCTSuperResLib.panels.training.texts import presetText
    from CBCTSuperResLib.train.options_file import PRESETS, preset
    from CBCTSuperResLib.train.pace import Pace, record_pace

    monkeypatch.setattr("CBCTSuperResLib.train.pace.count_gpus", lambda: 0)
    assert choices.seconds() is None and choices.presetSeconds("quick-look") is None
    assert presetText("quick-look", None) == "Quick look (minutes)"
    assert [options.name for options in choices.unmeasured()] == [preset(name)["name"] for name in PRESETS]
    for options in choices.unmeasured():
        record_pace(options, Pace(0.2, 0.5))
    assert choices.unmeasured() == []
    assert choices.seconds() == choices.presetSeconds("quick-look") == pytest.approx(0.2 * (1150 * 0.5 + 200))
    assert presetText("quick-look", choices.seconds()) == "Quick look (about 3 min here)"
    choices.change({"train.niter": 2350})
    assert choices.seconds() == pytest.approx(0.2 * (1150 * 0.5 + 1200))
    choices.change({"datasets.train.batch_size": 4})
    assert choices.seconds() is None


def test_weights_that_are_not_there_make_no_model(choices):
    from CBCTSuperResLib.panels.training.parameters import Which

    folder = choices.resultsFolder / "experiments" / "Lauf 1"
    (folder / "models").mkdir(parents=True)
    (folder / "status.json").write_text('{"state": "running", "step": 5, "niter": 9, "updated": 1.7e9}')
    choices.parameters.shownRun = "Lauf 1"
    assert "first checkpoint" in choices.whyNotUsed()
    (folder / "models" / "latest_G.safetensors").touch()
    assert choices.parameters.which is Which.best and "Nothing was validated in this run" in choices.whyNotUsed()
    choices.parameters.which = Which.latest
    assert choices.whyNotUsed() == ""
    (folder / "models" / "best_G.safetensors").touch()
    choices.parameters.which = Which.best
    assert choices.whyNotUsed() == ""


def test_tensorboard_has_something_to_show_once_a_run_wrote_for_it(choices):
    folder = choices.boardFolder / "Lauf 1"
    assert "use_tb_logger" in choices.whyNoBoard()
    folder.mkdir(parents=True)
    assert choices.whyNoBoard()
    (folder / "events.out.tfevents.17").touch()
    assert choices.whyNoBoard() == ""


def test_what_is_asked_before_a_training_starts(application):
    from CBCTSuperResLib.panels.training.choices import planProblems

    plan = {"missing": [], "problems": [], "device": "cpu", "seconds": 3000.0, "memory_bytes": 2e9}
    assert planProblems(plan, 1000) == []
    (question,) = planProblems({**plan, "seconds": 360_000.0}, 1000)
    assert "on the CPU, take about 4 days" in question and "2.0 GB" in question
    assert planProblems({**plan, "seconds": 360_000.0}, 1000, stepsDone=995) == []
    assert planProblems({**plan, "seconds": 360_000.0, "device": "cuda", "problems": ["Tight."]}, 1000) == ["Tight."]
    with pytest.raises(InputError, match="There is no a.nrrd"):
        planProblems({**plan, "missing": ["There is no a.nrrd."]}, 1000)
