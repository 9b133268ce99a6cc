"""What is chosen in the panel of CBCTSuperResTraining, as the logic takes it, and what is wrong with it; no Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ...core.atomic import json_of
from ...core.errors import InputError, OptionError, SuperResError
from ...core.gpus import count_gpus
from ...core.memory import readable
from ...io.formats import VOLUME_FORMATS
from ...models.folder import SUFFIX
from ...scene.training_logic import TrainingLogic
from ...scene.training_volumes import Steps, finished
from ...train.options import TrainingOptions
from ...train.options_file import PRESETS, Problems, preset, read_and_check, read_options, value_at, with_value
from ...train.pace import known_pace
from ...train.run_folder import RunInfo, read_run
from ..error_text import errorText
from .data_checks import imagesText, problemOfAll, rowsText, warningsOfAll
from .data_rows import USES, DataRow, isNode, readRows, writeRows
from .option_values import DEVICE, Values, isPreset, withoutOtherImages, withRows
from .parameters import TrainingParameters, Which, WindowChoice
from .texts import longDuration, useText

AUTOMATIC, CPU, GPU = range(3)
Kind = tuple[str, str]  # recipe and generator: `model` and `network_G.which_model_G`
RANGE = "datasets.train.normalization_range"
ROOT_KEYS = ("dataroot_HR", "dataroot_LR")
OF_THE_SCANS = ("normalization_range", "scanner_window", "patient_pattern")
LONG_ON_CPU_S = 3600.0


class TrainingChoices:
    """Reads the parameters of the scene; sections share it and change parameters only.

    Attributes
    ----------
    parameters : TrainingParameters or None
        None while no scene is followed.
    """

    def __init__(self, logic: TrainingLogic) -> None:
        self.logic = logic
        self.parameters: TrainingParameters | None = None
        self._checkedJson = ""
        self._checked: tuple[TrainingOptions, Problems] | None = None

    @property
    def resultsFolder(self) -> Path:
        """Where runs are and where new ones go: `path.root` of the options."""
        return Path(self.parameters.resultsFolder).expanduser()

    @property
    def boardFolder(self) -> Path:
        """Where runs write what TensorBoard shows."""
        return self.resultsFolder / "tb_logger"

    # The settings: the JSON of the options, apart from name, root and images

    def settings(self) -> Values:
        """What is kept in the scene; before anything was chosen, the first preset.

        Raises
        ------
        OptionError
            If they are no JSON object.
        """
        if not self.parameters.settings:
            return {**preset(PRESETS[0]), **DEVICE}
        try:
            values = json_of(self.parameters.settings)
            datasets = {key: dict(dataset) for key, dataset in (values.get("datasets") or {}).items() if dataset}
            return {**values, "datasets": datasets, "path": dict(values.get("path") or {})}
        except (ValueError, TypeError, AttributeError) as error:
            raise OptionError(_("The settings in this scene cannot be read."), _("Choose a preset.")) from error

    def setSettings(self, values: Values) -> None:
        self.parameters.settings = json.dumps(values, ensure_ascii=False)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set single keys, such as "train.niter"; nothing happens where the settings cannot be read."""
        if self.parameters is None:
            return
        with suppress(OptionError):
            values = before = self.settings()
            for name, value in changes.items():
                values = with_value(values, name, value)
            if values != before:
                self.setSettings(values)

    def takeFile(self, values: Values, rows: Sequence[DataRow]) -> None:
        """Take everything from a file of options: name, root, scans, and the window as it is given there."""
        self.parameters.runName = values["name"]
        self.parameters.resultsFolder = Path(values["path"]["root"])
        self.parameters.window = WindowChoice.custom
        self.setSettings(values)
        writeRows(self.parameters, rows)

    def choosePreset(self, name: str) -> None:
        """Take all options of a preset; the device, what says where files are, and what the scans are stays."""
        values, used = {**preset(name), **DEVICE}, {row.use for row in self.rows()}
        with suppress(OptionError):
            before = self.settings()
            values["path"] |= before["path"]
            values |= {key: before.get(key, value) for key, value in DEVICE.items()}
            if "train" in used:
                values["datasets"]["train"] |= {key: before["datasets"]["train"].get(key) for key in OF_THE_SCANS}
        if "train" not in used:
            self.parameters.window = WindowChoice.estimated
        self.setSettings(withoutOtherImages(values, used))

    def presetName(self) -> str:
        """The preset that the settings are; "" if they are none."""
        if self.parameters is not None:
            with suppress(OptionError):
                values = self.settings()
                return next((name for name in PRESETS if isPreset(values, name)), "")
        return ""

    def kind(self) -> Kind | None:
        """What kind of model is trained; None where the settings cannot be read."""
        if self.parameters is not None:
            with suppress(OptionError):
                return kindOf(self.settings())
        return None

    def kinds(self) -> list[Kind]:
        """The kinds that there are presets of, and the one that is chosen if a file of options has brought another."""
        kinds = list(dict.fromkeys(kindOf(preset(name)) for name in PRESETS))
        return kinds if self.kind() in (None, *kinds) else [*kinds, self.kind()]

    def presets(self) -> list[str]:
        """Those of the kind that is chosen."""
        return [name for name in PRESETS if kindOf(preset(name)) == self.kind()]

    def chooseKind(self, kind: Kind) -> None:
        """Take the first preset of another kind."""
        if kind != self.kind():
            self.choosePreset(next(name for name in PRESETS if kindOf(preset(name)) == kind))

    def device(self) -> int:
        """Where is to be computed: `AUTOMATIC`, `CPU` or `GPU`."""
        with suppress(OptionError):
            values = self.settings()
            device, numbers = value_at(values, "device"), value_at(values, "gpu_ids")
            if device == "cpu" or (device != "cuda" and numbers == []):
                return CPU
            return AUTOMATIC if device != "cuda" and numbers == "auto" else GPU
        return AUTOMATIC

    def devices(self) -> list[int]:
        """Those that can be chosen here: a GPU only where there is one, or where a file of options has asked for it."""
        return [AUTOMATIC, CPU, GPU] if count_gpus() or self.device() == GPU else [AUTOMATIC, CPU]

    def chooseDevice(self, device: int) -> None:
        self.change({"device": "cuda" if device == GPU else "auto", "gpu_ids": [] if device == CPU else "auto"})

    # How long it takes

    def seconds(self) -> float | None:
        """What the training will take on this computer; None if nothing was measured of one alike."""
        if self.parameters is None or self.optionProblems():
            return None
        options = self.checkedOptions()[0]
        pace = known_pace(options)
        return pace.seconds(options.train) if pace else None

    def presetSeconds(self, name: str) -> float | None:
        """What a preset takes here, computed where it is chosen to."""
        options = self._presetOptions(name)
        pace = known_pace(options)
        return pace.seconds(options.train) if pace else None

    def unmeasured(self) -> list[TrainingOptions]:
        """The presets, unless what each takes here is known."""
        presets = [self._presetOptions(name) for name in PRESETS]
        return [] if all(map(known_pace, presets)) else presets

    def _presetOptions(self, name: str) -> TrainingOptions:
        values = {**preset(name), **DEVICE}
        if self.parameters is not None:
            with suppress(OptionError):
                values |= {key: self.settings().get(key, value) for key, value in DEVICE.items()}
        return read_and_check(values)[0]

    # The scans of the table

    def rows(self) -> list[DataRow]:
        return readRows(self.parameters) if self.parameters is not None else []

    def setRows(self, rows: Sequence[DataRow]) -> None:
        """Change the table. Where a set gets its first scans, the images that the settings name make way for them."""
        before = {row.use for row in self.rows()}
        now = {row.use for row in rows}
        if "train" in before - now:
            self.parameters.window = WindowChoice.estimated
        writeRows(self.parameters, rows)
        if now - before:
            self.setSettings(withoutOtherImages(self.settings(), now - before))

    def volumes(self) -> list:
        """Scans, or pairs of scans, to train on; none if the settings name other images."""
        return [row.item for row in self._rowsFor("train")]

    def validation(self) -> list:
        """Scans, or pairs of scans, to validate with."""
        return [row.item for row in self._rowsFor("val")]

    def dataProblem(self) -> str:
        """Why the table of scans will not do, or nothing."""
        return problemOfAll(self.rows(), self.settings)

    def dataWarnings(self) -> list[str]:
        """What is wrong with the scans of the table, and what to beware of."""
        problem = self.dataProblem()
        return [*([problem] if problem else []), *warningsOfAll(self.rows())]

    def learnsFrom(self) -> str:
        """What is trained on and what validated with, a line each; why that cannot be told, if it cannot."""
        if self.parameters is None:
            return ""
        rows, lines = self.rows(), []
        try:
            values = self.values()
        except SuperResError as error:
            return errorText(error)
        for phase in USES:
            chosen = [row for row in rows if row.use == phase]
            text = rowsText(chosen) if chosen else imagesText(values, phase)
            lines.append(f"{useText(phase)}: {text}")
        return "\n".join(lines)

    # The options: settings, name, root and images

    def values(self) -> Values:
        """The whole JSON; a volume of the scene is there by name only.

        Raises
        ------
        OptionError
            If the settings cannot be read at all.
        """
        values = withRows(self.settings(), self.rows())
        values["name"] = self.parameters.runName.strip()
        values["path"] = {**values["path"], "root": str(self.resultsFolder)}
        return with_value(values, RANGE, None) if self.isWindowEstimated() else values

    def valuesOrNone(self) -> Values | None:
        """The whole JSON; None if the settings cannot be read at all."""
        with suppress(OptionError):
            return self.values()
        return None

    def options(self) -> TrainingOptions:
        """The options, checked; volumes of the scene are in them by name only.

        Raises
        ------
        OptionError
            With all that is wrong.
        """
        options, problems = self.checkedOptions()
        return read_options(self.values()) if problems.found else options

    def optionsToPlan(self) -> TrainingOptions:
        """Options whose images all exist: what is in the scene is not written only to plan.

        Raises
        ------
        OptionError
            With all that is wrong.
        """
        if not any(isNode(scan) for row in self.rows() for scan in (row.fine, row.coarse)):
            return self.options()
        values = self.values()
        for phase in USES:
            if any(isNode(scan) for row in self._rowsFor(phase) for scan in (row.fine, row.coarse)):
                values["datasets"][phase] |= {"mode": "HR", "procedural": 1, **dict.fromkeys(ROOT_KEYS)}
        return read_options(values)

    def readyOptions(self) -> TrainingOptions:
        """The options with which a training starts.

        Raises
        ------
        SuperResError
            Why it cannot start.
        """
        self.checkReady()
        return self.completeOptions()

    def completeOptions(self) -> TrainingOptions:
        """The options with volumes of the scene written, paths absolute, and a window estimated if need be.

        Raises
        ------
        SuperResError
            What is wrong; files that are named and not there are none of it.
        """
        return finished(self.completing())

    def completing(self) -> Steps:
        """`completeOptions` as things are now, in small steps, for a timer; the generator returns the options."""
        problem = self.dataProblem()
        if problem:
            raise InputError(problem)
        values = self.values()
        if self.isWindowEstimated():
            values = with_value(values, RANGE, self.estimatedWindow())
        return self.logic.completing(values, volumes=self.volumes(), validation=self.validation())

    def isWindowEstimated(self) -> bool:
        """Whether the first fine scan decides over the normalization range, which then is None in the options."""
        return self.parameters.window is WindowChoice.estimated and bool(self._rowsFor("train"))

    def estimatedWindow(self) -> list[float] | None:
        """The normalization range of the first fine scan to train on; None for a folder of slices.

        Raises
        ------
        SuperResError
            If the scan cannot be read.
        """
        scan = self._rowsFor("train")[0].fine
        if not isNode(scan) and not str(scan).lower().endswith(VOLUME_FORMATS):
            return None
        return self.logic.suggestWindow(scan)

    # What is wrong

    def checkedOptions(self) -> tuple[TrainingOptions, Problems]:
        """The options, with the default wherever one is wrong, and all that is wrong; not read again while the same.

        Raises
        ------
        OptionError
            If the settings cannot be read at all.
        """
        values = self.values()
        text = json.dumps(values, sort_keys=True)
        if text != self._checkedJson:
            self._checked, self._checkedJson = read_and_check(values), text
        return self._checked

    def optionProblems(self) -> list[tuple[tuple[str, ...], str]]:
        """All that is wrong with the options: the keys that a sentence is about, and the sentence."""
        try:
            return self.checkedOptions()[1].found
        except SuperResError as error:
            return [((), errorText(error))]

    def mistake(self) -> str:
        """What is wrong with the table of scans or with the settings, or nothing."""
        if self.parameters is None:
            return _("No scene is open.")
        problem = self.dataProblem()
        if problem:
            return problem
        problems = self.optionProblems()
        if not problems:
            return ""
        (keys, text), *others = problems
        if not others and any(key.startswith("datasets.train.dataroot") for key in keys):
            return _(
                "There is nothing to train on. Add scans to the table, or choose a preset with computer-drawn slices."
            )
        return text

    def problem(self) -> str:
        """Why a training cannot start, or nothing: a mistake, or a file that is needed and not there."""
        mistake = self.mistake()
        if mistake:
            return mistake
        if not self.resultsFolder.is_absolute():
            return _("Choose a results folder.")
        if self.device() == GPU and not count_gpus():
            return _("This computer has no graphics card (NVIDIA) that can compute. Choose another device.")
        absent = self.logic.missing(self.optionsToPlan())
        return absent[0] if absent else ""

    def checkReady(self) -> None:
        """Make sure that a training can start.

        Raises
        ------
        InputError
            Why it cannot.
        """
        problem = self.problem()
        if problem:
            raise InputError(problem)

    # The run that is chosen in the list

    def shownRun(self) -> RunInfo | None:
        """The chosen run as it is now."""
        if self.parameters is None or not self.parameters.shownRun:
            return None
        return read_run(self.resultsFolder / "experiments" / self.parameters.shownRun)

    def whyNotResumed(self) -> str:
        """Why the chosen run cannot be resumed, or nothing; a finished one is, if it is to get longer."""
        run = self.shownRun()
        if run is None:
            return _("Choose a run first.")
        if run.can_resume:
            return ""
        if run.state != "finished":
            return _("The run has no checkpoint to go on from.")
        with suppress(SuperResError):
            if self.parameters.runName.strip() == run.name and self.options().train.niter > run.step:
                return ""
        return _("The run is finished. To train it longer, give more steps in the settings and its name as run name.")

    def whyNotUsed(self) -> str:
        """Why the weights that are chosen of the chosen run make no model, or nothing."""
        run = self.shownRun()
        models = run.folder / "models" if run else None
        if models is None or not any(models.glob(f"*{SUFFIX}")):
            return _("Choose a run that has saved a model: the first is saved at its first checkpoint.")
        if self.parameters.which is Which.best and not any(models.glob(f"best_*{SUFFIX}")):
            return _("Nothing was validated in this run yet, so that none are known to be the best. Choose Latest.")
        return ""

    def whyNoBoard(self) -> str:
        """Why TensorBoard would show nothing, or nothing."""
        if self.parameters is not None and any(self.boardFolder.glob("*/*tfevents*")):
            return ""
        return _(
            "No run here has written anything for TensorBoard. Turn on use_tb_logger in Settings, All settings, before "
            "a training."
        )

    def _rowsFor(self, phase: str) -> list[DataRow]:
        return [row for row in self.rows() if row.use == phase]


def kindOf(values: Values) -> Kind:
    """Of the options of a training."""
    return str(value_at(values, "model")), str(value_at(values, "network_G.which_model_G"))


def planProblems(plan: Mapping, niter: int | None, stepsDone: int = 0) -> list[str]:
    """What there is to ask before a training starts.

    Parameters
    ----------
    plan : mapping
        The report of `TrainingLogic.plan`.
    niter, stepsDone : int
        Steps of the run, and those that a resumed run has behind it.

    Raises
    ------
    InputError
        If something is missing, so that it cannot start at all.
    """
    if plan["missing"]:
        raise InputError("\n".join(plan["missing"]), _("Change the data or the settings."))
    steps = niter or 1
    seconds = plan["seconds"] * max(0, steps - stepsDone) / steps
    if plan["device"] != "cpu" or seconds < LONG_ON_CPU_S:
        return list(plan["problems"])
    text = _(
        "This training would run on the CPU, take about {duration}, and keep the computer busy all the time "
        "({memory} of memory). A GPU is many times faster; a smaller model, as in the preset Light, takes less."
    )
    text = text.format(duration=longDuration(seconds), memory=readable(plan["memory_bytes"]))
    return [*plan["problems"], text]
