"""What was found in images and in scans that were prepared, in words; what is wrong comes first.

Section Data: which scans a training learns from, and whether they will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ..dialogs import askAndEnsurePackages
from ..widgets import Section
from .add_scans import ScanAdder
from .choices import TrainingChoices
from .data_rows import DataRow
from .data_table import DataTable
from .option_values import withPrepared
from .parameters import WindowChoice
from .preparing import Checkerboard, Preparing
from .tasks import TaskView, WrittenTask

MOST_SHOWN = 12
GOOD, FAIR = 0.25, 0.6  # residual misalignment in coarse voxels


def checkText(report: Mapping) -> str:
    """The report of `TrainingLogic.checkData`."""
    train, val = report["train"], report["val"]
    parts = [_warningsText(report["warnings"]) or _("No problems were found.")]
    parts.append(_setText(_("Training"), train, [_imagesText(train["images"]), _windowText(train)]))
    if val:
        parts.append(_setText(_("Validation"), val, [_("{count} images").format(count=val["count"])]))
    else:
        parts.append(_("Validation: no images. The best model will be the latest one."))
    return "\n\n".join(parts)


def prepareText(report: Mapping) -> str:
    """The report of `TrainingLogic.prepare`, of one pair or of folders."""
    return _foldersText(report) if "pairs" in report else _pairText(report)


def alignmentText(alignment: Mapping) -> str:
    """How well a registered pair is aligned: in mm, and what that means."""
    share = alignment["median_mm"] / alignment["lr_voxel_mm"]
    verdict = _("good") if share <= GOOD else _("fair") if share <= FAIR else _("poor: look at the checkerboard")
    return _(
        "Residual misalignment: {median:.3f} mm (median), {p95:.3f} mm (95 % of the blocks), where a coarse voxel is "
        "{voxel:.3g} mm: {verdict}."
    ).format(median=alignment["median_mm"], p95=alignment["p95_mm"], voxel=alignment["lr_voxel_mm"], verdict=verdict)


def _pairText(report: Mapping) -> str:
    region, moved = report["region"], report["registration"]
    registered = _("Registered: from {start} moved by {mm:.2f} mm and turned by {degrees:.2f} degrees.").format(
        start=moved["begun_from"], mm=moved["shift_from_start_mm"], degrees=moved["rotation_from_start_deg"]
    )
    lines = [
        registered if moved["done"] else _("Not registered; the scans were taken to be aligned."),
        alignmentText(report["alignment"]),
        _(
            "Common region: {fine} fine voxels of {fineSpacing} mm, {coarse} coarse voxels of {coarseSpacing} mm."
        ).format(
            fine=by(region["hr_size"]),
            fineSpacing=by(region["hr_spacing_mm"]),
            coarse=by(region["lr_size"]),
            coarseSpacing=by(region["lr_spacing_mm"]),
        ),
        _("Windows: fine {fine}, coarse {coarse} gray values.").format(
            fine=_rangeText(report["window_hr"]), coarse=_rangeText(report["window_lr"])
        ),
    ]
    title = _("{name} is prepared.").format(name=report["name"])
    return "\n\n".join(filter(None, [_warningsText(report["warnings"]), "\n".join([title, *lines])]))


def _foldersText(report: Mapping) -> str:
    count = _("{pairs} pairs are prepared, {failed} failed.").format(
        pairs=len(report["pairs"]), failed=len(report["failed"])
    )
    advice = [f"{failed['name']}: {failed['advice']}" for failed in report["failed"]]
    pairs = [
        _("{name} ({use}, patient {patient}): {slices} slices, misalignment {median:.3f} mm").format(
            name=pair["name"],
            use=_useText(pair["set"]),
            patient=pair["patient"],
            slices=pair["slices"],
            median=pair["median_mm"],
        )
        for pair in sorted(report["pairs"], key=lambda pair: -pair["median_mm"])
    ]
    warnings = [*report["warnings"], *advice]
    warnings += [f"{pair['name']}: {text}" for pair in report["pairs"] for text in pair["warnings"]]
    return "\n\n".join(filter(None, [_warningsText(warnings), count, "\n".join(_shortened(pairs))]))


def _useText(use: str) -> str:
    return _("training") if use == "train" else _("validation")


def _warningsText(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return "\n".join([_("Look at this first:"), *(f"- {text}" for text in dict.fromkeys(warnings))])


def _setText(title: str, told: Mapping, facts: Sequence[str]) -> str:
    lines = [*facts, *_sizeLines(told["sizes"]), *_fileLines(told.get("files", ())), *_displacementLines(told)]
    return "\n".join([f"{title}:", *filter(None, lines), *_patientLines(told["patients"])])


def _imagesText(counts: Mapping[str, int]) -> str:
    names = {
        "pairs": _("{count} pairs of images"),
        "scans": _("{count} fine images, coarse ones simulated"),
        "public": _("{count} images of public scans"),
        "procedural": _("{count} computer-drawn images"),
    }
    return ", ".join(names[kind].format(count=count) for kind, count in counts.items())


def _windowText(told: Mapping) -> str:
    text = _("Window: {window} gray values, {share:.1%} of the values lie outside")
    return text.format(window=_rangeText(told["window"]), share=told["clipped_share"])


def _sizeLines(sizes: Sequence[Mapping]) -> list[str]:
    text = _("{count} of {size} pixels")
    told = [text.format(count=one["images"], size=by(one["size"][::-1])) for one in sizes]
    return [_("Sizes: {sizes}").format(sizes=", ".join(_shortened(told)))] if told else []


def _fileLines(files: Sequence[Mapping]) -> list[str]:
    names = {"LR": _("Coarse images"), "HR": _("Fine images")}
    lines = []
    for one in files:
        edges = one["voxel_size_mm"]
        spacing = _("voxel size not recorded") if edges is None else _("{edges} mm").format(edges=_spanText(edges))
        lines.append(f"{names[one['role']]}: {', '.join(one['types'])}, {spacing}")
    return lines


def _displacementLines(told: Mapping) -> list[str]:
    found = told["displacement"]
    if found is None:
        return []
    text = _("Misalignment of pairs: {median:.2f} fine pixels (median of {checked}), at most {worst:.2f} in {name}")
    return [
        text.format(median=found["median"], checked=found["checked"], worst=found["worst"], name=found["worst_name"])
    ]


def _patientLines(patients: Mapping[str, int]) -> list[str]:
    told = [_("{name}: {count} images").format(name=name, count=count) for name, count in patients.items()]
    return [_("By patient (or file):"), *(f"  {line}" for line in _shortened(told))] if told else []


def _shortened(lines: Sequence[str]) -> list[str]:
    if len(lines) <= MOST_SHOWN:
        return list(lines)
    return [*lines[: MOST_SHOWN - 1], _("and {count} more").format(count=len(lines) - MOST_SHOWN + 1)]


def by(numbers: Sequence[float]) -> str:
    """ "400 x 400 x 280"."""
    return " x ".join(f"{number:.6g}" for number in numbers)


def _rangeText(window: Sequence[float]) -> str:
    return _("{low:.6g} to {high:.6g}").format(low=window[0], high=window[1])


def _spanText(edges: Sequence[float]) -> str:
    return f"{edges[0]:.3g}" if edges[0] == edges[-1] else f"{edges[0]:.3g} - {edges[-1]:.3g}"


class DataSection(Section):
    """The table of scans; the check of all images; registration of a pair and its checkerboard.

    Attributes
    ----------
    ensurePackages : callable
        Called before another process works; installs what is missing.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, choices.logic
        self.ensurePackages: Callable[[], None] = askAndEnsurePackages
        self._table = DataTable(ui, choices, self.refresh)
        self._adder = ScanAdder(ui, self._table.add)
        self._work = TaskView(ui.dataProgressBar, ui.dataStatusLabel)
        self._board = Checkerboard()
        self._prepared: Preparing | None = None
        self._unseen: dict | None = None
        self.ui.checkButton.connect("clicked(bool)", self.onCheckOrCancel)
        self.ui.prepareButton.connect("clicked(bool)", self.onPrepareOrCancel)
        self.ui.checkerboardButton.connect("clicked(bool)", self.onCheckerboard)
        self.ui.dataReport.visible = False

    @property
    def isBusy(self) -> bool:
        return self._work.isBusy or self._board.isBusy

    def bind(self, parameters) -> None:
        super().bind(parameters)
        self._adder.bind()
        self._table.bind(self.whenChanged)
        if self._unseen is not None:
            self._takeUnseen(self._unseen)

    def unbind(self) -> None:
        self._table.unbind()
        super().unbind()

    def refresh(self) -> None:
        self._table.refresh()
        self._adder.refresh(self.parameters is not None and not self._work.isBusy)
        self._showButtons()

    def poll(self) -> None:
        if self._board.isBusy:
            self._goOnShowing()
        if self._work.isBusy:
            self._work.poll()
        if not self.isBusy:
            self.whenChanged()

    def close(self) -> None:
        self._work.close()
        self._board.remove()
        self._prepared = self._unseen = None
        self._showReport("")

    def onCheckOrCancel(self, checked: bool = False) -> None:
        if self._work.isBusy:
            self._work.cancel()
            return
        self._prepared = None
        self._begin(lambda: WrittenTask(self.choices.completing(), self.logic.checkData), self._showCheck)

    def onPrepareOrCancel(self, checked: bool = False) -> None:
        if self._work.isBusy:
            self._work.cancel()
            return
        row = self._table.chosenRow()
        try:
            preparing = Preparing.ask(row, self.choices)
        except SuperResError as error:
            self._work.showError(error)
            return
        if preparing is None:
            return
        self._prepared = preparing
        self._begin(lambda: preparing.start(self.logic), self._takePrepared)

    def onCheckerboard(self, checked: bool = False) -> None:
        if self._board.isShown:
            self._board.remove()
        else:
            self._showBoard(self._table.chosenRow())
        self.whenChanged()

    def _begin(self, task: Callable, whenDone: Callable[[dict], None]) -> None:
        self._showReport("")
        try:
            self.ensurePackages()
        except SuperResError as error:
            self._work.showError(error)
            return
        self._work.start(task, whenDone)
        self.whenChanged()

    def _showCheck(self, report: dict) -> None:
        self._showReport(checkText(report))

    def _takePrepared(self, report: dict) -> None:
        """Put what was written in place of the row that it was made of; later, if the module is not shown."""
        self._unseen = report if self.parameters is None else None
        if self._unseen is not None:
            return
        preparing, self._prepared = self._prepared, None
        self._showReport(prepareText(report))
        values, rows = withPrepared(self.choices.settings(), preparing.datasets())
        rows = preparing.rows(rows)
        self.parameters.window = WindowChoice.custom
        self.choices.setSettings(values)
        self._table.replace(preparing.row, rows)
        self._showBoard(preparing.worstRow(rows, report))

    def _takeUnseen(self, report: dict) -> None:
        try:
            self._takePrepared(report)
        except SuperResError as error:
            self._work.showError(error)

    def _showBoard(self, row: DataRow) -> None:
        try:
            self._board.show(row.coarse, row.fine)
        except SuperResError as error:
            self._work.showError(error)
        self.whenChanged()

    def _goOnShowing(self) -> None:
        self._board.poll()

    def _showReport(self, text: str) -> None:
        self.ui.dataReport.setPlainText(text)
        self.ui.dataReport.visible = bool(text)

    def _showButtons(self) -> None:
        isBusy = self._work.isBusy
        isChecking, isPreparing = isBusy and self._prepared is None, isBusy and self._prepared is not None
        row = self._table.chosenRow() if self.parameters is not None else None
        self._showCheckButton(isChecking, isPreparing)
        reason = "" if isPreparing else _("Wait for the check.") if isChecking else _whyNotPrepared(row)
        self.ui.prepareButton.text = _("Cancel") if isPreparing else _("Register and prepare...")
        self.ui.prepareButton.enabled = not reason
        self.ui.prepareButton.toolTip = reason or (
            _("Stop; nothing is written.")
            if isPreparing
            else _("Align the coarse scan of the chosen row to its fine scan and write a pair that can be trained on.")
        )
        reason = "" if self._board.isShown else _whyNoBoard(row)
        self.ui.checkerboardButton.text = _("Hide checkerboard") if self._board.isShown else _("Show checkerboard")
        self.ui.checkerboardButton.enabled = not reason
        self.ui.checkerboardButton.toolTip = reason or _(
            "Fine and coarse scan by turns in the slice views: where they are aligned, edges run on from tile to tile."
        )

    def _showCheckButton(self, isChecking: bool, isPreparing: bool) -> None:
        reason = _("Wait for the registration.") if isPreparing else "" if isChecking else self.choices.mistake()
        self.ui.checkButton.text = _("Cancel") if isChecking else _("Check data")
        self.ui.checkButton.enabled = not reason
        self.ui.checkButton.toolTip = reason or (
            _("Stop looking.")
            if isChecking
            else _("Read all images as a training would, and tell counts, sizes, windows, misalignment and patients.")
        )


def _whyNotPrepared(row: DataRow | None) -> str:
    if row is None or not row.isPair:
        return _("Choose a row with a coarse and a fine scan first.")
    if row.coarse is None or row.fine is None:
        return _("A volume of this row is no longer in the scene.")
    return ""


def _whyNoBoard(row: DataRow | None) -> str:
    hasVolumes = row is not None and row.isPair and row.isPrepared and str(row.fine).lower().endswith(".nrrd")
    return "" if hasVolumes else _("Choose a row that was prepared here first.")
