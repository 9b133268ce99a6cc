"""What is said of this machine's and this process's memory."""

import subprocess
import sys

import numpy as np
from CBCTSuperResLib.core.memory import peak_memory

OF_THE_PARENT = 700_000_000


def test_the_peak_of_a_worker_is_not_that_of_the_application_that_started_it():
    block = np.ones(OF_THE_PARENT // 8)
    assert peak_memory() > block.nbytes
    code = "from CBCTSuperResLib.core.memory import peak_memory; print(peak_memory())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1e6 < int(told.stdout) < 0.5 * block.nbytes
