"""Where and how precisely a run computes."""

from __future__ import annotations

import os
from typing import Literal, get_args

import torch

from ..errors import DeepclustError, InvalidSetting
from ..words import counted
from .plan import Precision


def choose_device(name: str) -> torch.device:
    """The device by its torch name; ``auto`` is a CUDA GPU where there is one, else the CPU.

    Raises DeepclustError for a device that torch does not know or this machine does not have.
    """
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None and device.type == "cuda" and device.index is None:
        device = torch.device("cuda:0")
    if device is None or str(device) not in there:
        raise DeepclustError(
            f"the device '{name}' is not on this machine; there is: {', '.join(there)}. "
            "Use --device auto for the best of these."
        )
    return device


def choose_precision(name: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """``auto`` is bf16 where the hardware multiplies it fast, else float32.

    Raises InvalidSetting for another name.
    """
    if name not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise InvalidSetting(f"the precision is '{name}', but it must be one of: {choices}.")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return "bf16" if probe() else "float32"
    return "float32"


def prepare(device: torch.device) -> None:
    """Make this process deterministic on the device, and its float32 products as exact as their name.

    Deterministic algorithms where torch has them (a warning where not), no denormal numbers, no TF32.
    On the CPU float32 products go through oneDNN where that is as exact: "medium" is faster on many
    processors, but one with AMX may round to bf16, so the error is measured here.
    """
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # costs a pass over each new tensor, and nothing here reads memory before it writes it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("medium" if device.type == "cpu" else "highest")
    if device.type == "cpu" and _product_error() > 1e-5:
        torch.set_float32_matmul_precision("highest")


def _product_error() -> float:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(256, 512, generator=generator)
    b = torch.randn(512, 256, generator=generator)
    exact = a.double() @ b.double()
    return float(((a @ b).double() - exact).abs().max() / exact.abs().max())


def describe(device: torch.device) -> str:
    """The device in words, for records of what was measured on what."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"
