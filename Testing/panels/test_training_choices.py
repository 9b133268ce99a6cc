"""What is chosen in the training panel and what is wrong with it, without any widget."""

from __future__ import annotations

import pytest
from CBCTSuperResLib.core.errors import InputError, OptionError
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
    assert choices.problem() == "" and choices.presetNumber() == 1


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


def test_settings_that_cannot_be_read_are_told_and_replaced_by_a_preset(choices):
    for text in ("{broken", "[1]", "3", '{"datasets": 3}', '{"datasets": {"train": 3}}'):
        choices.parameters.settings = text
        assert "cannot be read" in choices.problem() and choices.presetNumber() == 0
        assert choices.dataSummary() == [(choices.problem(), False)]
        choices.change({"train.niter": 5})
        assert choices.parameters.settings == text
        choices.choosePreset("light")
        choices.choosePreset("quick-look")
        assert choices.problem() == "" and choices.presetNumber() == 1


def test_what_there_is_to_train_on_is_summed_up(choices):
    fine, coarse = add_volume("Jaw fine"), add_volume("Jaw coarse")
    assert choices.dataSummary()[0][0].startswith("Training: ") and "computer-drawn" in choices.dataSummary()[0][0]
    choices.setRows(rows((fine, None, "train"), (coarse, None, "val")))
    assert choices.dataSummary() == [("Training: 1 fine scan", False), ("Validation: 1 fine scan", False)]
    choices.setRows(rows((fine, None, "train"), (fine, coarse, "train")))
    assert choices.dataSummary()[0] == (choices.dataProblem(), True)
    assert ("Training: 1 pair, 1 fine scan", False) in choices.dataSummary()
    choices.setRows([])
    assert "There is nothing to train on" in choices.mistake()


def test_prepared_scans_are_not_to_be_mixed_with_others(choices, tmp_path):
    for folder in (tmp_path / "pair" / "HR", tmp_path / "pair" / "LR"):
        folder.mkdir(parents=True)
        make_scan().write(folder / "P1.nrrd")
    (tmp_path / "pair" / "datasets.json").write_text("{}")
    prepared = rows((str(tmp_path / "pair" / "HR" / "P1.nrrd"), str(tmp_path / "pair" / "LR" / "P1.nrrd")))
    assert prepared[0].isPreparedPair
    choices.setRows([*prepared, *rows((add_volume("Jaw"), add_volume("Jaw coarse")))])
    assert any("Prepared scans have gray values" in text and isWarning for text, isWarning in choices.dataSummary())


def test_nothing_is_chosen_while_no_scene_is_followed(choices):
    choices.parameters = None
    assert choices.mistake() == choices.problem() == "No scene is open."
    assert (choices.rows(), choices.dataSummary(), choices.presetNumber()) == ([], [], -1)
    assert choices.shownRun() is None and choices.whyNotResumed() == "Choose a run below."


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
