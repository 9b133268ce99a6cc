"""Workers on this machine, of a batch system, or of a scheduler that runs: Dask starts or finds them.

Dask (the extra `cluster`) is imported where it is needed only: Slicer has none.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from ..core.errors import DependencyError, DeviceError, OptionError

LOCAL, LOCAL_PREFIX = "local", "local:"
SCHEDULERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
CONNECT_S = 10
RECONNECT_S = 120
MOST_JOBS = 10  # that are asked of a batch system where nobody says how many


def check_device(device: str) -> None:
    """Refuse a device that workers do not have.

    Raises
    ------
    OptionError
    """
    if re.fullmatch("cuda:[1-9].*|.*,.*|cuda:all", device):
        raise OptionError(f"--device is {device}, and workers see one GPU each.", "Say --device cuda, auto or cpu.")


class Cluster:
    """Workers, and the connection to them.

    >>> with Cluster("local:4") as cluster:
    ...     queue = ClusterQueue(items, cluster)

    Parameters
    ----------
    place : str
        "local:N" starts N workers on this machine; "slurm", "pbs", "lsf" or "sge" asks a batch system for them, as
        dask-jobqueue's own configuration says; FILE.yaml is such a configuration; "tcp://HOST:PORT" is the address of
        a scheduler that runs already.
    jobs : int
        How many workers a batch system is asked for.

    Raises
    ------
    OptionError, DependencyError, DeviceError
        Of `__enter__`: the place means nothing, Dask is not installed, nobody answers there.
    """

    def __init__(self, place: str, jobs: int = MOST_JOBS) -> None:
        self.place, self._jobs = place, jobs
        self.client = self._workers = None

    def __enter__(self) -> Cluster:
        self._require("distributed")
        import distributed  # noqa: F401 - sets its own levels of logging

        for name in ("distributed", "distributed.client"):  # what matters is told in words of our own
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            if self.place.startswith(LOCAL_PREFIX):
                self._workers = self._local()
            elif "://" not in self.place:
                self._workers = self._of_batch_system()
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def is_here(self) -> bool:
        """Whether the workers are processes of this computer."""
        return self.place.startswith(LOCAL_PREFIX)

    @property
    def count(self) -> int:
        """How many workers there are, or were asked for."""
        return max(1, len(self.present()), self._jobs if self._workers is not None and not self.is_here else 0)

    def present(self) -> list[str]:
        """Addresses of the workers that are there; waits for the scheduler's answer."""
        return list(self.client.nthreads())  # what `scheduler_info` gives, a timer of the client's empties meanwhile

    @property
    def dashboard(self) -> str:
        return self.client.dashboard_link

    def reconnect(self) -> None:
        """Find the scheduler again, which may have been started anew.

        Raises
        ------
        DeviceError
            If nobody answers for two minutes.
        """
        end = time.monotonic() + RECONNECT_S
        while True:
            try:
                return self._connect()
            except DeviceError:
                if time.monotonic() > end:
                    raise

    def close(self) -> None:
        """Let the workers go, or end those that were started for this. Safe at any time."""
        for one in (self.client, self._workers):
            with suppress(Exception):  # the other end may be gone
                if one is not None:
                    one.close()
        self.client = self._workers = None

    def _connect(self) -> None:
        from distributed import Client

        if self.client is not None:
            with suppress(Exception):
                self.client.close(timeout=1)
        try:
            self.client = Client(self._workers or self.place, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError, RuntimeError, ImportError) as error:
            raise DeviceError(
                f"No Dask scheduler answers at {self.place} within {CONNECT_S} s.",
                "Start one with `dask scheduler`, or correct the address.",
            ) from error

    def _local(self):
        from distributed import LocalCluster

        number = self.place.removeprefix(LOCAL_PREFIX)
        if not number.isdigit() or int(number) < 1:
            raise OptionError(f"--cluster is {self.place}.", "Give local:N with N from 1, or local.")
        return LocalCluster(
            n_workers=int(number),
            threads_per_worker=1,
            memory_limit=0,  # what takes memory is the process that computes
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )

    def _of_batch_system(self):
        import dask

        kind, configuration = self.place, {}
        if Path(kind).suffix in (".yaml", ".yml"):
            kind, configuration = self._read(Path(kind))
        if kind not in SCHEDULERS:
            raise OptionError(
                f"--cluster is {self.place}.",
                f"Give local, local:N, {', '.join(SCHEDULERS)}, tcp://HOST:PORT or a file that ends in .yaml.",
            )
        self._require("dask_jobqueue")
        import dask_jobqueue

        # For good, because jobs are asked for later, too; importing dask-jobqueue has set its defaults.
        dask.config.update(dask.config.config, configuration)
        # A scan has a worker of its own, with all cores of its job.
        processes = {"processes": 1} if dask.config.get(f"jobqueue.{kind}.processes", None) is None else {}
        try:
            workers = getattr(dask_jobqueue, SCHEDULERS[kind])(**processes)
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"dask-jobqueue refuses the configuration of {kind}: {error}.",
                "Give cores, memory and the like in a file, see cluster.md in the documentation.",
            ) from error
        command = workers.job_cls.submit_command.split()[0]
        if not shutil.which(command):
            workers.close()
            raise DeviceError(f"There is no command {command} here.", "Start this where jobs are submitted.")
        workers.adapt(minimum_jobs=self._jobs, maximum_jobs=self._jobs)  # a job that ends is asked for again
        return workers

    def _read(self, file: Path) -> tuple[str, dict]:
        """The batch system that a configuration is about, and the configuration."""
        import yaml

        try:
            read = yaml.safe_load(file.read_text(encoding="utf-8"))
            (kind,) = read["jobqueue"]
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise OptionError(f"{file} cannot be read: {error}.", "Give a file of dask-jobqueue's options.") from error
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(
                f"{file} does not name one batch system.",
                "Write the options of dask-jobqueue below `jobqueue:` and, below that, one of: "
                f"{', '.join(SCHEDULERS)}.",
            ) from error
        return kind, read

    def _require(self, package: str) -> None:
        if importlib.util.find_spec(package) is None:
            raise DependencyError(
                f"--cluster {self.place} needs the Python package {package.replace('_', '-')}, which is not installed.",
                'Install it: pip install "cbct-superres[cluster]".',
            )
