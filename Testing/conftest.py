"""What all tests share: the library on the path, one thread, the shared data, a real MRML scene, a tiny model."""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT / "Testing", ROOT / "Testing" / "support", ROOT / "CBCTSuperRes"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(name, "1")

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # tests that need hypothesis say so themselves
    pass
else:
    settings.register_profile(
        "project",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=40,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("project")


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread():
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _float32():
    """The same arithmetic on every processor; tests of bfloat16 say so themselves."""
    try:
        from CBCTSuperResLib.apply.engines import pytorch
    except ImportError:  # without torch there is no arithmetic
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "bfloat16_pays", lambda: False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _temporary_files(tmp_path_factory):
    """A folder, gone with the session, for what fakes and killed processes leave behind."""
    tmp_path_factory.getbasetemp()
    multiprocessing.util.get_temp_dir()  # it is removed at exit, and must then be there
    place = tempfile.TemporaryDirectory(prefix="tests-", ignore_cleanup_errors=True)
    with place as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder shared/data beside the repository, or beside one of the folders above it."""
    for folder in ROOT.parents:
        if (folder / "shared" / "data").is_dir():
            return folder / "shared" / "data"
    pytest.skip("the real scans are not here: there is no folder shared/data beside the repository")


@pytest.fixture(scope="session")
def mrml():
    """The module `slicer`, with a scene; skips where slicer-core is not installed."""
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    if not hasattr(slicer, "mrmlScene"):
        slicer.mrmlScene = slicer.vtkMRMLScene()
    if not slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLColorTableNode"):
        colors = slicer.vtkMRMLColorLogic()
        colors.SetMRMLScene(slicer.mrmlScene)
        colors.AddDefaultColorNodes()
    return slicer


@pytest.fixture
def scene(mrml):
    """The scene, empty at the beginning of each test."""
    mrml.mrmlScene.Clear(0)
    if hasattr(mrml, "app"):
        mrml.app.resetViews()
    yield mrml.mrmlScene
    if "slicerapp" in sys.modules:
        sys.modules["slicerapp"].closeWidgets()
    mrml.mrmlScene.Clear(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A file with an untrained UNetSPSR so small that a slice takes milliseconds."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from CBCTSuperResLib.models.card import ModelCard
    from CBCTSuperResLib.models.model import Model
    from CBCTSuperResLib.networks import build_network
    from CBCTSuperResLib.scan.tissue import TissueLevels

    torch.manual_seed(0)
    network = build_network("unetspsr", nf=4, gc=4, nb=4)
    with torch.no_grad():  # the usual first weights are so small that the output would be constant
        for weight in network.parameters():
            weight.mul_(5)
    card = ModelCard(
        name="tiny",
        title="A tiny model for tests",
        spec=network.describe(),
        window=(0.0, 4000.0),
        levels=TissueLevels(0.05, 0.3, 0.7),
    )
    path = tmp_path_factory.mktemp("Modelle für Tests") / "tiny.safetensors"
    Model(network, card).save(path)
    return path


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory) -> Path:
    """A small scan in a folder whose name has spaces and other letters."""
    from scans import make_scan

    return make_scan().write(tmp_path_factory.mktemp("Zähne vorn") / "scan 1.nrrd")


@pytest.fixture(scope="session")
def long_scan_file(tmp_path_factory) -> Path:
    """A scan that keeps the tiny model busy for longer than any test waits."""
    from scans import make_scan

    return make_scan((2000, 40, 40)).write(tmp_path_factory.mktemp("long") / "long.nrrd")


@pytest.fixture(autouse=True)
def _own_user_folder(tmp_path_factory, monkeypatch):
    """Tests see no models of the person who runs them, and leave none there."""
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(tmp_path_factory.mktemp("user") / "Models"))


@pytest.fixture
def ready_workers(monkeypatch):
    """Workers need not import anything; how they start in the product is tested in Testing/jobs."""
    import ready_workers
    from CBCTSuperResLib.jobs import job, pool

    if ready_workers.CAN_FORK:
        for module in (job, pool):
            monkeypatch.setattr(module, "start_in_own_group", ready_workers.start_in_own_group)


@pytest.fixture(autouse=True)
def _ready_workers_of_nodes_and_panels(request):
    if request.path.parent.name in ("scene", "panels"):
        request.getfixturevalue("ready_workers")


@pytest.fixture(scope="session")
def qt_or_skip() -> None:
    """Skips where Qt or the system's libraries for it are missing; their absence is no fault of ours."""
    try:
        import PySide6.QtUiTools  # noqa: F401
    except ImportError as error:
        packages = "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 libx11-6 fonts-dejavu-core"
        pytest.skip(f"Qt is missing ({error}): pip install PySide6-Essentials; apt-get install {packages}")


@pytest.fixture(scope="session")
def application(mrml, qt_or_skip):
    """`slicerapp`, with the application's side of `slicer` filled in."""
    sys.path.insert(0, str(ROOT / "Testing" / "standin"))
    import slicerapp

    slicerapp.start(mrml.mrmlScene)
    return slicerapp


@pytest.fixture
def hosted(application):
    """Call it with a module's widget: a `hosting.HostWindow` with it, as the application shows it."""
    import hosting

    windows = []
    yield lambda widget: windows.append(hosting.show(widget)) or windows[-1]
    for window in windows:
        window.release()


@pytest.fixture
def user_models(tiny_model, monkeypatch, tmp_path):
    """A folder of user models that holds the tiny one."""
    folder = tmp_path / "Modelle"
    folder.mkdir()
    shutil.copy(tiny_model, folder)
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(folder))
    return folder


@pytest.fixture
def nothing_fails_unseen(monkeypatch):
    """Exceptions in slots and observers end nothing, in Slicer as here; they must not happen all the same."""
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: seen.append(value))
    yield
    assert not seen, seen


@pytest.fixture
def apply_module(application):
    """The module file of CBCTSuperRes, loaded."""
    return application.loadModule(str(ROOT / "CBCTSuperRes" / "CBCTSuperRes.py"))


@pytest.fixture
def packages(application, monkeypatch):
    """What computing needs is taken to be installed, and how fast it is to be known; returns the functions that would
    look for it and ask."""
    from CBCTSuperResLib.panels import dialogs
    from CBCTSuperResLib.panels.training.choices import TrainingChoices

    real = SimpleNamespace(
        ensure=dialogs.ensurePackages, offer=dialogs.offerTrainingExtras, unmeasured=TrainingChoices.unmeasured
    )
    monkeypatch.setattr(dialogs, "ensurePackages", lambda *_, **__: None)
    monkeypatch.setattr(dialogs, "offerTrainingExtras", lambda: [])
    monkeypatch.setattr(TrainingChoices, "unmeasured", lambda choices: [])
    return real


@pytest.fixture
def no_looks(application, monkeypatch):
    """Scans are not looked at by a worker as soon as they are chosen."""
    from CBCTSuperResLib.panels.apply.choices import ApplyChoices

    monkeypatch.setattr(ApplyChoices, "scannerKey", lambda choices: None)


@pytest.fixture
def apply_widget(application, scene, apply_module, user_models, packages, nothing_fails_unseen, no_looks):
    """The module's widget in a scene with the volume Jaw and the tiny model chosen."""
    from apply_helpers import add_scan, choose_model

    add_scan("Jaw")
    widget = application.showWidget(apply_module)
    choose_model(widget.panel)
    yield widget
    widget.cleanup()


@pytest.fixture
def apply_panel(apply_widget):
    return apply_widget.panel


@pytest.fixture
def fake_job(apply_panel, monkeypatch):
    """Makes Apply start a `FakeJob`; the arguments of the start are kept on it."""
    from apply_helpers import FakeJob

    job = FakeJob()

    def start(*nodes, **options):
        job.nodes, job.options = nodes, options
        return job

    monkeypatch.setattr(apply_panel.logic, "start", start)
    return job


@pytest.fixture
def training_module(application):
    """The module file of CBCTSuperResTraining, loaded."""
    return application.loadModule(str(ROOT / "CBCTSuperResTraining" / "CBCTSuperResTraining.py"))


@pytest.fixture
def training_widget(application, scene, training_module, user_models, packages, nothing_fails_unseen, tmp_path):
    """The module's widget, with every section open and an empty results folder."""
    widget = application.showWidget(training_module)
    for section in widget.parent.findChildren(application.qt.QWidget):
        if section.className() == "ctkCollapsibleButton":
            section.collapsed = False
    widget.panel.parameters.resultsFolder = tmp_path / "Läufe 1"
    yield widget
    widget.cleanup()


@pytest.fixture
def training_panel(training_widget):
    return training_widget.panel
