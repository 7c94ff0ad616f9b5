"""What a run changes for its whole process, put back afterwards for those who share the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cuda, cudnn, mkldnn

from ...core.engine import checkpoint
from ...core.run import device as devices

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_LOCK = threading.RLock()


@contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """As a run on ``device`` computes, inside; afterwards, also after an error, as it was before.

    That is the states of all random generators, torch's default type, its determinism and its
    precision. Threads take turns, since all of this belongs to the process.
    """
    with _LOCK:
        generators = checkpoint.rng_state()
        dtype = torch.get_default_dtype()
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        benchmark, workspace, flush = cudnn.benchmark, os.environ.get(CUBLAS), _flushes_denormal()
        products = _matmul_precision()
        try:
            torch.set_default_dtype(torch.float32)
            devices.prepare(device)
            yield
        finally:
            checkpoint.set_rng_state(generators)
            torch.set_default_dtype(dtype)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            cudnn.benchmark = benchmark
            if workspace is None:
                os.environ.pop(CUBLAS, None)
            torch.set_flush_denormal(flush)
            _set_matmul_precision(*products)


def _flushes_denormal() -> bool:
    """Whether this thread takes denormal numbers as 0; torch can set it but not say it."""
    return float(torch.tensor(2.0**-1000, dtype=torch.float64) * 2.0**-70) == 0


def _matmul_precision() -> tuple[str, str, str]:
    """Torch's word for the precision of float32 products, and each backend's own."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # the backends were set one by one, which no single word describes
        precision = "highest"
    on_cpu = mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return precision, on_cpu, cuda.matmul.fp32_precision


def _set_matmul_precision(precision: str, on_cpu: str, on_cuda: str) -> None:
    torch.set_float32_matmul_precision(precision)  # sets the backends too, so it comes first
    mkldnn.matmul.fp32_precision = on_cpu  # type: ignore[attr-defined]
    cuda.matmul.fp32_precision = on_cuda
