"""States on disk: written whole or not at all, checked when read, loaded without unpickling code."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import DeepclustError
from ..files import replacing

SNAPSHOT_NAME = "snapshot.pt"  # the file in a training's folder that it resumes from
DOS_FOLDER = 0x10  # of a zip record's external attributes


def save(state: Any, path: Path) -> None:
    """Write what ``plain`` takes, such as a nested dict of tensors, with a CRC-32 of each record."""
    with replacing(path) as file:
        torch.save(state, file)


def load(
    path: Path, device: torch.device | str = "cpu", remedy: str = "delete it to train this stage again"
) -> Any:
    """Read what ``save`` wrote.

    remedy: what to do where it is damaged.
    Raises DeepclustError where it is: torch's own reader does not look at the CRCs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            # torch reads nothing, into memory that it did not clear, where this bit says "a folder"
            folders = (i.filename for i in archive.infolist() if i.external_attr & DOS_FOLDER)
            damaged = damaged or next(folders, None)
        if damaged is not None:
            raise zipfile.BadZipFile(f"record {damaged} does not match its checksum")
        state = torch.load(path, map_location=device, weights_only=True)
    except (FileNotFoundError, PermissionError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a damaged archive fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeepclustError(f"the snapshot '{path}' is damaged ({reason}); {remedy}.") from error
    return state


def plain(value: Any, device: torch.device | str = "cpu") -> Any:
    """``value`` as ``load`` gives it back: with copies of its tensors, on ``device`` and without gradient.

    Raises TypeError for what is neither tensor, number, text nor None, nor a list, tuple or dict of them.
    """
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    if type(value) in (list, tuple):
        return type(value)(plain(item, device) for item in value)
    if type(value) is dict:
        return {plain(key): plain(item, device) for key, item in value.items()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        f"a {type(value).__name__} cannot be kept: give tensors, numbers, text, or lists, tuples and dicts "
        "of them"
    )


def rng_state() -> dict[str, Any]:
    """The states of all global random generators: torch on each device, NumPy, Python."""
    name, keys, position, has_gauss, gauss = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators back to ``rng_state``'s states."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def seed_everything(seed: int) -> None:
    """Seed all global random generators."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
