"""Export: the result into a file, as a DICOM series, and its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from ...core.atomic import write_json
from ...core.errors import Cancelled, SuperResError
from ...io.folders import report_path
from ...io.formats import OUTPUT_FORMATS, format_of
from ...scene.export import ExportJob, dicomTags, fileOf, freePath
from ...scene.logic import SuperResLogic
from ...scene.nodes import inputOf, reportOf
from .. import dialogs
from ..error_text import errorText
from ..section import WARNING, JobSection, offer
from .choices import ApplyChoices


class ExportSection(JobSection):
    """Three buttons below the result; while one of them works, it cancels that.

    Parameters
    ----------
    result : callable
        Returns the result that is shown; None if there is none.
    """

    def __init__(self, ui, choices: ApplyChoices, logic: SuperResLogic, result: Callable) -> None:
        super().__init__(ui, choices, ui.exportLabel)
        self.logic, self._result = logic, result
        self._shown = None
        ui.saveResultButton.connect("clicked(bool)", self.onSave)
        ui.saveDicomButton.connect("clicked(bool)", self.onSaveDicom)
        ui.saveAccountButton.connect("clicked(bool)", self.onSaveReport)

    def refresh(self) -> None:
        result, noResult = self._result(), ""
        if result is None:
            noResult = _("There is no result yet.")
        if result is not self._shown and not self.isBusy:
            self._shown = result
            self.tell("")
        isDicom = self.isBusy and self.job.isDicom
        for button, isAtWork, text, hint in (
            (
                self.ui.saveResultButton,
                self.isBusy and not isDicom,
                _("Save file…"),
                _("Write the result into a file (NRRD, MHA or NIfTI), beside the scan, with its report beside it."),
            ),
            (
                self.ui.saveDicomButton,
                isDicom,
                _("Save DICOM…"),
                _("Write the result as a new DICOM series: of the patient and study of the scan, if that is DICOM."),
            ),
            (
                self.ui.saveAccountButton,
                False,
                _("Save report…"),
                _("Write how the result was computed, its figures and its warnings into a file (JSON)."),
            ),
        ):
            button.text = _("Cancel") if isAtWork else text
            reason = noResult or (_("Something is being written.") if self.isBusy else "")
            offer(button, "" if isAtWork else reason, _("Stop writing; nothing is left.") if isAtWork else hint)

    def close(self) -> None:
        super().close()
        self.tell("")

    def onSave(self, checked: bool = False) -> None:
        self.startOrCancel(self._save)

    def onSaveDicom(self, checked: bool = False) -> None:
        self.startOrCancel(self._saveDicom)

    def onSaveReport(self, checked: bool = False) -> None:
        result = self._result()
        suggested = freePath(result, ".json")
        path = self._chosen(dialogs.chooseNewFile(_("Save the report"), _("Report (*.json)"), str(suggested)), ".json")
        if path is None:
            return
        try:
            write_json(path, reportOf(result))
            self.tell(_("Saved: {path}").format(path=path))
        except SuperResError as error:
            self.failed(error)

    def done(self, job: ExportJob) -> None:
        self.tell("\n".join([_("Saved: {path}").format(path=job.path), *job.warnings]))

    def failed(self, error: SuperResError) -> None:
        self.tell(errorText(error) if isinstance(error, Cancelled) else WARNING + errorText(error))

    def _save(self) -> ExportJob | None:
        filters = ";;".join(f"{kind[1:].upper()} (*{kind})" for kind in OUTPUT_FORMATS)
        suggested = freePath(self._result(), ".nrrd")
        path = self._chosen(dialogs.chooseNewFile(_("Save the result"), filters, str(suggested)), ".nrrd")
        if path is None:
            return None
        report = report_path(path)
        if report.exists() and not path.exists() and not self._mayReplace(report):
            return None
        return self.logic.startExport(self._result(), path)

    def _saveDicom(self) -> ExportJob | None:
        result = self._result()
        beside = str(freePath(result, "").parent)
        parent = dialogs.chooseFolder(_("Save a DICOM series, as a new folder in this one"), beside)
        if not parent:
            return None
        dialogs.ensurePackages(needsTorch=False)
        tags, patient = dicomTags(fileOf(inputOf(result))), {}
        wanted = {"patient_name": (_("Name (Family^Given):"), "name"), "patient_id": (_("Patient ID:"), "id")}
        untold = {option: label for option, (label, tag) in wanted.items() if not tags.get(tag)}
        if untold:
            question = _("The scan does not tell whose it is, which DICOM needs.")
            patient = dialogs.askTexts(_("Save DICOM"), question, untold)
            if not patient:
                return None
        return self.logic.startExport(result, freePath(result, "", Path(parent)), patient=patient)

    def _chosen(self, path: str, suffix: str) -> Path | None:
        """What was chosen, with a suffix; None if nothing was, or another file would be replaced against the will."""
        if not path:
            return None
        known = OUTPUT_FORMATS if suffix in OUTPUT_FORMATS else (suffix,)
        if format_of(path) in known:
            return Path(path)  # the window for choosing has asked
        whole = Path(f"{path}{suffix}")
        return whole if not whole.exists() or self._mayReplace(whole) else None

    def _mayReplace(self, path: Path) -> bool:
        question = _("{path} is there already. Replace it?").format(path=path)
        return dialogs.confirm(_("Save"), question, _("Replace"))
