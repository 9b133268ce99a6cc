"""The commands `cbct-superres train`, `test` and `export`: from a file of options to a model, and its measures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError, OptionError
from .sbatch import slurm_script, words_for_a_job
from .terminal import Progress, add_command

if TYPE_CHECKING:
    from ..train.options import TrainingOptions


def add_training_commands(commands) -> None:
    """Declare the commands that make a model."""
    train = add_command(commands, "train", "train a model from an options file", run_train)
    _add_options_file(train, required=False)
    train.add_argument("--on", metavar="SCAN", help="in place of options: adapt a model to this scan of thick slices")
    train.add_argument("--model", default="any-size", help="which model is adapted (default: %(default)s)")
    train.add_argument("--out", type=Path, help="where the adapted model goes (default: the folder of user models)")
    train.add_argument("--steps", type=int, default=200, help="of the adaptation (default: %(default)s)")
    train.add_argument("--dry-run", action="store_true", help="check the options and files, tell memory and time, stop")
    train.add_argument("--resume", metavar="auto|FILE", help="go on from the newest checkpoint, or from this one")
    train.add_argument(
        "--accept-changes", action="store_true", help="resume although options differ from the checkpoint's"
    )
    train.add_argument("--processes", type=int, default=None, metavar="N", help="train in N processes on the CPU")
    train.add_argument("--feature-weights", metavar="FILE", help="VGG19 weights (vgg19-dcbb9e9d.pth)")
    train.add_argument("--import-g", metavar="FILE", help="start from these weights: a model, SPSR's or ESRGAN's .pth")
    train.add_argument("--data", metavar="FOLDER", help="folder with the public scans that the options name")
    train.add_argument(
        "--print-sbatch",
        type=int,
        metavar="N",
        help="print a Slurm script that trains on N machines, as many GPUs on each as gpu_ids name, and end",
    )
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")

    test = add_command(commands, "test", "super-resolve the test images of an options file and measure", run_test)
    _add_options_file(test)
    test.add_argument("--quiet", action="store_true", help="print nothing but errors")

    export = add_command(commands, "export", "make a model of a training run, for apply", run_export)
    export.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run: ROOT/experiments/NAME")
    export.add_argument(
        "--out", type=Path, help="file to write (default: NAME.safetensors in the folder of user models)"
    )
    export.add_argument("--which", default="best", metavar="best|latest|STEP", help="which state of the run")
    export.add_argument("--half", action="store_true", help="weights as float16: half the size")
    export.add_argument(
        "--no-halo",
        dest="halo",
        action="store_false",
        help="do not measure the halo, which takes an hour for the full size on a CPU: whole slices only",
    )
    export.add_argument("--device", default="auto", help="where to measure the halo")


def _add_options_file(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("-opt", "--opt", required=required, metavar="FILE", help="options file (JSON)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change options, for instance network_G.nf=32 train.feature_weight=0",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default: as gpu_ids say)")


def run_train(parsed: argparse.Namespace) -> int:
    """`cbct-superres train`"""
    if (parsed.on is None) is (parsed.opt is None):
        raise OptionError("A training needs either options or a scan to adapt to.", "Give -opt FILE, or --on SCAN.")
    if parsed.on and parsed.print_sbatch is not None:
        raise OptionError("A model is adapted on one machine.", "Leave --print-sbatch out.")
    if parsed.on:
        return _adapt(parsed)
    from ..train.options_file import read_options

    shortcuts = {
        "path.feature_weights": parsed.feature_weights,
        "path.pretrain_model_G": parsed.import_g,
        "path.public_data": parsed.data,
    }
    changes = [f"{key}={json.dumps(value)}" for key, value in shortcuts.items() if value]
    options = read_options(parsed.opt, [*parsed.set, *changes])
    if parsed.print_sbatch is not None:
        print(machines_script(parsed, options), end="")
        return 0
    if parsed.dry_run:
        from ..train.plan import look_into_files, plan

        found = plan(options, parsed.device or "auto", measure=True)
        print(found.text())
        if not found.missing:
            print("\n".join(look_into_files(options)))
        return InputError.exit_code if found.missing or found.problems else 0
    from ..train.logs import Console
    from ..train.run import train

    train(
        options,
        resume=parsed.resume,
        accept_changes=parsed.accept_changes or _ask_about_changes,
        device=parsed.device,
        processes=parsed.processes,
        observers=[] if parsed.quiet else [Console()],
    )
    return 0


def machines_script(parsed: argparse.Namespace, options: TrainingOptions) -> str:
    """A Slurm script that does the same on several machines, by torchrun, and goes on where a job's time was over.

    Raises
    ------
    OptionError
        If the number makes no sense, or the batch cannot be shared evenly.
    """
    from ..train.ranks import share_of

    machines, is_cpu = parsed.print_sbatch, (parsed.device or options.device) == "cpu" or options.gpu_ids == ()
    if machines < 1:
        raise OptionError(f"{machines} machines make no sense.", "Give 1 or more.")
    processes = (parsed.processes or 1) if is_cpu else len(options.gpu_ids or (0,))
    share_of(options.datasets["train"].batch_size, machines * processes)
    job = [f"--nodes={machines}", "--ntasks-per-node=1", f"--cpus-per-task={8 * processes}", "--mem=64G"]
    if not is_cpu:
        job.append(f"--gpus-per-node={processes}")
    if options.gpu_ids is None and not is_cpu:
        job.append("# gpu_ids name no GPUs: one a machine. For more change --gpus-per-node and --nproc-per-node.")
    job += ["--time=24:00:00", "--signal=TERM@120"]
    resume = [] if parsed.resume else [" --resume auto"]
    run = words_for_a_job(parsed.words, ["--processes"]) + "".join(resume)
    return slurm_script(
        job,
        [
            'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            f'srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node={processes} --rdzv-backend=c10d \\',
            '    --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$head:29500" \\',
            f"    -m CBCTSuperResLib.cli {run}",
        ],
    )


def _adapt(parsed: argparse.Namespace) -> int:
    """Adapt a model to one scan; nothing is written if it does not gain."""
    from ..io.volume import Volume
    from ..models.folder import user_models_folder
    from ..models.model import Model
    from ..train.adapt import adapt

    if parsed.steps < 1:
        raise OptionError(f"--steps is {parsed.steps}.", "Give 1 or more.")
    name = f"{parsed.model.rpartition('/')[2].removesuffix('.safetensors')}-{Path(parsed.on).name.partition('.')[0]}"
    out = parsed.out or user_models_folder() / f"{name}.safetensors"
    with Progress(quiet=parsed.quiet) as progress:
        done = adapt(Volume.read(parsed.on), Model.load(parsed.model), out.stem, parsed.steps, progress)
    print(done.sentence)
    if done.is_better:
        out.parent.mkdir(parents=True, exist_ok=True)
        print(f"Written to {done.model.save(out)}")
    return 0


def _ask_about_changes(changes: list[str]) -> bool:
    """Show what differs from the checkpoint and ask; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    print("The options differ from those of the checkpoint:\n  " + "\n  ".join(changes), file=sys.stderr)
    return input("Go on with the new ones? [y/N] ").strip().lower() in ("y", "yes")


def run_test(parsed: argparse.Namespace) -> None:
    """`cbct-superres test`"""
    from ..train.options_file import read_options
    from ..train.test import report_text, test

    options = read_options(parsed.opt, parsed.set, is_train=False)
    with Progress(parsed.quiet) as progress:
        report = test(options, device=parsed.device, progress=progress)
    if not parsed.quiet:
        print(report_text(report))


def run_export(parsed: argparse.Namespace) -> None:
    """`cbct-superres export`"""
    from ..models.folder import user_models_folder
    from ..train.export import export_run

    which = int(parsed.which) if parsed.which.isdigit() else parsed.which
    out = parsed.out or user_models_folder() / f"{parsed.run_folder.resolve().name}.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    with Progress(quiet=False) as progress:
        path = export_run(
            parsed.run_folder, out, which, halo=parsed.halo, half=parsed.half, device=parsed.device, progress=progress
        )
    print(f"Written to {path}")
