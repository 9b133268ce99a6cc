"""Slurm scripts say what the command said: run by a shell with a Slurm that only notes what it is given."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from CBCTSuperResLib.cli import main, make_parser
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.resources import resource
from scans import make_scan

NOTING = '#!/bin/bash\nprintf "%s\\0" "$@" > "$NOTES"\n'


@pytest.fixture
def run_script(tmp_path):
    """Runs a script; returns what the command `name` was given."""

    def run(script: str, name: str) -> list[str]:
        tools, notes = tmp_path / "tools", tmp_path / "notes"
        tools.mkdir(exist_ok=True)
        for tool, text in [(name, NOTING), ("scontrol", '#!/bin/bash\necho "node 1"\necho other\n')]:
            (tools / tool).write_text(text)
            (tools / tool).chmod(0o755)
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_ARRAY_TASK_ID": "3"}
        environment = {**os.environ, **slurm, "PATH": path, "NOTES": str(notes)}
        subprocess.run(["bash", "-eu"], input=script, encoding="utf-8", check=True, env=environment)
        return notes.read_text(encoding="utf-8").split("\0")[:-1]

    return run


@pytest.fixture
def options_file(tmp_path):
    """Options of a training in a folder whose name has a space."""
    (tmp_path / "my options").mkdir()
    path = tmp_path / "my options" / "light.json"
    path.write_text((resource("Configurations") / "light.json").read_text(encoding="utf-8"))
    return path


def test_a_training_on_many_machines_is_the_same_command_by_torchrun(options_file, run_script, capsys):
    given = ["train", "-opt", str(options_file), "--set", "gpu_ids=[0,1]", "train.niter=70000", "--print-sbatch", "2"]
    assert main([*given, "--data", "x y"]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --nodes=2\n" in script and "#SBATCH --gpus-per-node=2\n" in script and "TERM@120" in script
    torchrun = run_script(script, "srun")
    at = torchrun.index("-m")
    assert (
        torchrun[:3] == ["torchrun", "--nnodes=2", "--nproc-per-node=2"] and "--rdzv-endpoint=node 1:29500" in torchrun
    )
    assert torchrun[at + 1] == "CBCTSuperResLib.cli"
    parsed, asked = (make_parser().parse_args(words) for words in (torchrun[at + 2 :], [*given, "--data", "x y"]))
    assert parsed.print_sbatch is None and parsed.resume == "auto" and parsed.data == "x y"
    assert (parsed.opt, parsed.set) == (asked.opt, asked.set)


def test_processes_on_the_cpu_are_those_of_torchrun_and_a_checkpoint_that_is_named_stays(
    options_file, run_script, capsys
):
    given = ["train", "-opt", str(options_file), "--device", "cpu", "--processes", "2", "--print-sbatch=1"]
    assert main([*given, "--resume", "c.state"]) == 0
    script = capsys.readouterr().out
    assert "--gpus-per-node" not in script and "--processes" not in script and "--print-sbatch" not in script
    torchrun = run_script(script, "srun")
    parsed = make_parser().parse_args(torchrun[torchrun.index("-m") + 2 :])
    assert "--nproc-per-node=2" in torchrun and parsed.resume == "c.state" and parsed.device == "cpu"


def test_a_script_that_could_not_train_is_not_printed(options_file, capsys):
    given = ["train", "-opt", str(options_file)]
    for more, words in [
        (["--print-sbatch", "0"], "0 machines make no sense"),
        (["--print-sbatch", "9973"], "cannot share evenly"),
        (["--print-sbatch", "2", "--set", "train.nonsense=1"], "nonsense"),
    ]:
        assert main([*given, *more]) == OptionError.exit_code
        told = capsys.readouterr()
        assert words in told.err and told.out == ""
    assert main(["train", "--on", "scan.nrrd", "--print-sbatch", "1"]) == OptionError.exit_code


def test_the_script_of_a_batch_is_printed_before_there_is_a_folder_of_results(tiny_model, tmp_path, run_script, capsys):
    for number in range(3):
        (tmp_path / "scans").mkdir(exist_ok=True)
        make_scan().write(tmp_path / "scans" / f"scan {number}.nrrd")
    out = tmp_path / "my results"
    given = ["batch", str(tmp_path / "scans"), "--output-folder", str(out), "--model", str(tiny_model)]
    assert main([*given, "--print-sbatch", "3"]) == 0
    script = capsys.readouterr().out
    assert not out.exists() and "#SBATCH --array=1-3" in script
    words = run_script(script, "cbct-superres")
    assert words == [*given, "--array", "3/3"] and shlex.split(script.splitlines()[-1])[1:-1] == words[:-1]
