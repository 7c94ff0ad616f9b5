"""The command as a process of its own, which a test can interrupt or kill."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def start(arguments: list[str], where: Path | None = None) -> subprocess.Popen:
    """Start ``deepclust ARGUMENTS`` in a folder, on one thread."""
    command = [sys.executable, "-m", "deepclust.cli", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, cwd=where)


def wait_until(reached: Callable[[], bool], process: subprocess.Popen) -> None:
    """Return as soon as it is reached; a process that ends before is a failure."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
