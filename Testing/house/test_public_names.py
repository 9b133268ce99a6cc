"""What README and the documentation beside it name, by exactly that name: imports, commands, exit codes, options, keys.

What version 0.1.0 had was recorded in Testing/fixtures/version_0_1_0: `commands.json` (options of every command, with
defaults and choices), `exit_codes.json`, `report_keys.json` and `option_keys.json` (of a training; "ours" are the keys
that UNetSPSR's own tables do not have). More may come; of these, nothing may go. What the modules of Slicer offer is
tested in mrml/test_version_0_1_0_scene.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from options_files import GONE

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "CBCTSuperRes"
OLD = ROOT / "Testing" / "fixtures" / "version_0_1_0"
PUBLIC = ["Grid", "Model", "ModelCard", "Options", "SuperResError", "Volume", "Window", "importers", "super_resolve"]
PROGRAMS = ["batch", "cli", "demo"]
ANY_MODEL = OLD / "models" / "old-residual.safetensors"
SCAN = next((OLD / "batch" / "scans").glob("*.nrrd"))


def recorded(name: str) -> dict:
    return json.loads((OLD / f"{name}.json").read_text(encoding="utf-8"))


def python(*arguments: str, folder: Path = LIBRARY) -> subprocess.CompletedProcess:
    """Python as a user starts it in a folder, with the library on its path."""
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


def command(*arguments: object) -> int:
    """The exit code of `cbct-superres`, within this process."""
    from CBCTSuperResLib.cli import main

    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse's
        return end.code


# Names


@pytest.mark.parametrize("name", PUBLIC)
def test_the_library_offers_what_readme_imports_from_it(name):
    library = importlib.import_module("CBCTSuperResLib")
    assert name in library.__all__ and getattr(library, name) is not None


def test_the_library_can_be_imported_as_readme_does():
    from CBCTSuperResLib import (
        Grid,
        Model,
        ModelCard,
        Options,
        SuperResError,
        Volume,
        Window,
        importers,
        super_resolve,
    )

    kinds = (Grid, Model, ModelCard, Options, SuperResError, Volume, Window)
    assert all(isinstance(kind, type) for kind in kinds) and issubclass(SuperResError, Exception)
    assert callable(super_resolve) and callable(importers.import_checkpoint) and callable(importers.export_checkpoint)


def test_importers_can_be_imported_from_their_own_module():
    from CBCTSuperResLib.importers import import_checkpoint

    assert callable(import_checkpoint)


def test_the_version_is_told():
    assert re.fullmatch(r"\d+\.\d+\.\d+", importlib.import_module("CBCTSuperResLib").__version__)


def test_volumes_models_and_results_have_what_readme_uses():
    from CBCTSuperResLib import Model, Options, Volume, super_resolve

    scan, told = Volume.read(SCAN), []
    result = super_resolve(
        scan, Model.load(ANY_MODEL), Options(planes="axial", device="cpu"), progress=lambda *now: told.append(now)
    )
    assert result.voxels.shape == (4, 40, 44) and result.report["window_reason"] and told
    assert callable(Volume.write)


def test_all_options_that_readme_lists_are_options():
    from CBCTSuperResLib import Options

    listed = {
        **{"model": None, "window": "auto", "blank": "none", "smooth": 0.5, "planes": "isotropic", "scale": 2.0},
        **{"roi": ((0, 1), (0, 1), (0, 1)), "dtype": "int16", "device": "cpu", "precision": "fp32", "tile": 32},
        **{"ensemble": 8, "uncertainty": 4, "disagreement_above": 20.0},
    }
    del listed["model"]  # that is an argument of its own
    chosen = Options(**listed)
    assert {name: getattr(chosen, name) for name in listed} == listed


def test_the_extras_for_training_can_be_offered():
    library = importlib.import_module("CBCTSuperResLib")
    assert callable(library.install.offerTrainingExtras)


# Commands


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_every_program_that_readme_starts_with_m_is_there(name, monkeypatch, capsys):
    if name == "demo":
        pytest.importorskip("slicer", reason="slicer-core is not installed")
    monkeypatch.setattr(sys, "argv", ["program", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"CBCTSuperResLib.{name}", run_name="__main__")
    assert end.value.code == 0 and "usage:" in capsys.readouterr().out


def test_the_batch_script_runs_as_a_file_from_any_folder_with_slicers_dashes(tmp_path):
    run = python(str(LIBRARY / "CBCTSuperResLib" / "batch.py"), "--", "--help", folder=tmp_path)
    assert run.returncode == 0 and "--skip-existing" in run.stdout, run.stderr


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every parser of the programs by what a user types, caught as each of them begins to read its arguments."""
    found = {}
    homes = {name: f"CBCTSuperResLib.{name}" for name in ("cli", "batch", "demo")}
    homes["evaluation.grading"] = "grading.grading"  # our measure of ourselves, which moved to Testing
    for name, home in homes.items():
        try:
            program = importlib.import_module(home)
        except ImportError:  # the demo's slicer-core is not everywhere
            continue
        found |= dict(_below("cbct-superres" if name == "cli" else name, _caught(program.main)))
    return found


class Caught(Exception):
    pass


def _caught(main: Callable) -> argparse.ArgumentParser:
    def stop(parser, *_):
        raise Caught(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Caught) as caught:
            main([])
    return caught.value.args[0]


def _below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from _below(f"{name} {word}", inner)


def arguments_of(parser: argparse.ArgumentParser) -> dict[str, dict]:
    """Options by their spellings and places by their names, each with what is recorded of it."""
    told = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        name = ", ".join(sorted(action.option_strings)) or action.dest
        default = None if action.default is argparse.SUPPRESS else action.default
        told[name] = {
            "default": json.loads(json.dumps(default, default=str)),
            "choices": [str(choice) for choice in action.choices] if action.choices else None,
            "required": bool(action.required),
            "nargs": action.nargs,
        }
    return told


@pytest.fixture(scope="module")
def commands() -> dict[str, dict]:
    return {name: arguments_of(parser) for name, parser in parsers().items()}


@pytest.mark.parametrize("name", recorded("commands"))
def test_no_command_loses_an_option_a_default_or_a_choice(commands, name):
    if name == "demo":
        pytest.importorskip("slicer", reason="slicer-core is not installed")
    assert name in commands
    for option, before in recorded("commands")[name].items():
        matching = [now for spelt, now in commands[name].items() if set(option.split(", ")) <= set(spelt.split(", "))]
        assert matching, f"{name} has no {option}"
        now = matching[0]
        assert now["default"] == before["default"] and now["nargs"] == before["nargs"], option
        assert set(now["choices"] or before["choices"] or ()) >= set(before["choices"] or ()), option
        assert before["required"] or not now["required"], f"{option} has become required"


def test_the_pages_on_clusters_and_slurm_name_options_and_places_that_are_there(commands):
    from CBCTSuperResLib.jobs.cluster import LOCAL, SCHEDULERS

    documentation, seen = ROOT / "Resources" / "Documentation", set()
    for page in ("cluster.md", "train.md"):
        text = (documentation / page).read_text(encoding="utf-8").replace("\\\n", " ")
        text = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
        for command, rest in re.findall(r"^cbct-superres (\w+) ([^\n#>]*)", text, re.MULTILINE):
            known = {word for spelt in commands[f"cbct-superres {command}"] for word in spelt.split(", ")}
            used = set(re.findall(r"(?<!\S)--[\w-]+", rest))
            assert used <= known, (page, command, used - known)
            seen |= {(command, word) for word in used}
    assert {
        ("batch", "--cluster"),
        ("apply", "--cluster"),
        ("batch", "--print-sbatch"),
        ("train", "--print-sbatch"),
    } <= seen
    assert {("apply", "--device"), ("batch", "--skip-existing"), ("batch", "--workers")} <= seen
    places = re.search(r"\| `local`.*?\n\n", (documentation / "cluster.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert all(f"`{kind}`" in places for kind in (LOCAL, *SCHEDULERS)) and "tcp://HOST" in places and ".yaml" in places


# Exit codes


def kinds_of_error() -> dict[str, int]:
    from CBCTSuperResLib import SuperResError

    importlib.import_module("CBCTSuperResLib.cli")
    waiting, found = [SuperResError], {}
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind.exit_code
        waiting += kind.__subclasses__()
    return found


@pytest.mark.parametrize("name, code", recorded("exit_codes").items())
def test_every_error_has_its_exit_code(name, code):
    assert kinds_of_error()[name] == code


def without_gpu() -> bool:
    return not pytest.importorskip("torch").cuda.is_available()


@pytest.mark.parametrize(
    "code, words",
    [
        (0, ["models", "list"]),
        (0, ["--version"]),
        (2, ["no-such-command"]),
        (2, ["apply", SCAN, "OUT/a.nrrd", "--ensemble", "3"]),
        (2, ["info", SCAN, "--smooth", "99"]),
        (3, ["info", "OUT/missing.nrrd"]),
        (3, ["train", "-opt", OLD / "options" / "train.json", "--set", "path.root=OUT"]),
        (4, ["info", SCAN, "--model", "no-such-model"]),
        (6, ["apply", SCAN, "OUT/a.nrrd", "--model", ANY_MODEL, "--device", "cuda"]),
        (7, ["apply", SCAN, "OUT/no-such-folder/a.nrrd", "--model", ANY_MODEL]),
        (7, ["apply", SCAN, "OUT/a.xyz", "--model", ANY_MODEL]),
    ],
)
def test_commands_end_with_the_code_of_what_went_wrong(code, words, tmp_path, monkeypatch, capsys):
    if code == 6 and not without_gpu():
        pytest.skip("there is a CUDA device")
    monkeypatch.chdir(tmp_path)  # where the options' relative folders are not
    assert command(*(str(word).replace("OUT", str(tmp_path)) for word in words)) == code
    assert code == 0 or capsys.readouterr().err.strip()


def test_a_missing_package_ends_with_8():
    hidden = (
        "import sys; sys.modules['torch'] = None; from CBCTSuperResLib.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    run = python("-c", hidden, "models", "verify", str(ANY_MODEL))
    assert run.returncode == 8 and "torch" in run.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_stopped_training_ends_with_130_and_has_saved_its_state(tmp_path, monkeypatch):
    monkeypatch.chdir(OLD)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # drawing the curves would take seconds
    options = ["path.root=" + json.dumps(str(tmp_path)), "train.niter=100000", "train.val_freq=100000"]
    run = tmp_path / "experiments" / "old_options"

    def stop() -> None:
        curves, end = run / "curves.csv", time.monotonic() + 240
        while time.monotonic() < end and not (curves.exists() and len(curves.read_bytes().splitlines()) > 1):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    assert command("train", "-opt", "options/train.json", "--quiet", "--set", *options) == 130
    thread.join(60)
    assert json.loads((run / "status.json").read_text(encoding="utf-8"))["state"] == "stopped"
    assert list((run / "training_state").iterdir())


# Reports and options


def keys_of(value: object, place: str = "") -> set[str]:
    """The keys of nested tables, "a.b" and, within lists, "a[].b"; a list of tables tells what any of them has."""
    if isinstance(value, dict):
        inner = {key for name, part in value.items() for key in keys_of(part, f"{place}.{name}")}
        return inner | {f"{place}.{name}".lstrip(".") for name in value}
    if isinstance(value, list):
        return {key for part in value for key in keys_of(part, f"{place}[]")}
    return set()


def report_of_a_run(folder: Path) -> dict:
    words = [SCAN, folder / "a.nrrd", "--model", ANY_MODEL, "--device", "cpu", "--quiet"]
    assert command("apply", *words, "--uncertainty", "2", "--disagreement-above", "5") == 0
    return json.loads((folder / "a.nrrd.json").read_text(encoding="utf-8"))


def test_a_report_lacks_no_key_that_it_had(tmp_path):
    assert set(recorded("report_keys")["apply"]) <= keys_of(report_of_a_run(tmp_path))


def test_the_facts_that_info_prints_lack_no_key_that_they_had(capsys):
    assert command("info", SCAN, "--model", ANY_MODEL, "--json") == 0
    assert set(recorded("report_keys")["info"]) <= keys_of(json.loads(capsys.readouterr().out))


def test_the_card_of_a_model_lacks_no_key_that_it_had(capsys):
    assert command("models", "show", ANY_MODEL) == 0
    assert set(recorded("report_keys")["models show"]) <= keys_of(json.loads(capsys.readouterr().out))


def test_every_key_of_a_training_is_still_known(tmp_path, capsys):
    """All are given at once, beside one that is not known: that one alone is told to be unknown."""
    values = {name.replace("datasets.*", "datasets.val"): told["default"] for name, told in OPTION_KEYS.items()}
    changes = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    assert command("train", "-opt", OLD / "options" / "train.json", "--set", *changes, "train.no_such_key=1") == 2
    unknown = [line for line in capsys.readouterr().err.splitlines() if "is not known" in line]
    assert len(unknown) == 1 and "train.no_such_key" in unknown[0]


def test_the_table_of_options_and_the_schema_for_editors_have_every_key():
    page = (ROOT / "Resources" / "Documentation" / "options.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.*]+)`( †)? \|", page, re.MULTILINE))
    gone = {f"{place}.{name}".lstrip(".") for place, names in GONE.items() for name in names}
    gone |= {"datasets.*.clip_lr", "network_G.branch_taps"}
    assert all(told["origin"] == "ours" and not told["used_by"] for name, told in OPTION_KEYS.items() if name in gone)
    kept = {name: told for name, told in OPTION_KEYS.items() if name not in gone}
    for name, told in kept.items():
        assert bool(rows[name]) is (told["origin"] == "ours"), name
    schema = json.loads((ROOT / "Resources" / "Configurations" / "training.schema.json").read_text(encoding="utf-8"))
    text = json.dumps(schema)
    assert [name for name in kept if f'"{name.rpartition(".")[2]}"' not in text] == []


OPTION_KEYS = recorded("option_keys")
