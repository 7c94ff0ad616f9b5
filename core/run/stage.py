"""How the stages of a run ended, each kept in its own folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine import Trainer
from ..files import write_json

ENDED = "ended.json"  # in a stage's folder


def keep(trainer: Trainer) -> None:
    """Write how a training ended, where that is not what is written there already."""
    plugins = {owner.plugin: owner.source for owner in trainer.owners.values()}
    ended = {
        "iterations": trainer.iteration,
        "epochs": round(trainer.iteration / trainer.updater.epoch_length, 3),
        "seconds": round(trainer.seconds, 3),
        "stopped by": trainer.stop_reason,
    }
    if plugins:
        ended["extended by"] = plugins
    path = trainer.out / ENDED
    if _read(path) != ended:
        write_json(path, ended)


def ends(folder: Path) -> dict[str, dict[str, Any]]:
    """How each stage of the run in ``folder`` ended, by its name, in the order in which they did."""
    found = [
        path
        for part in folder.iterdir()  # one by one, as an encoder that runs share is a link
        if part.is_dir()
        for path in part.rglob(ENDED)
    ]
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path))
    return {path.parent.relative_to(folder).as_posix(): _read(path) for path in found}


def extended_by(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The plugins that extended the training of any stage, with distribution and version."""
    return {
        plugin: source for stage in stages.values() for plugin, source in stage.get("extended by", {}).items()
    }


def _read(path: Path) -> dict[str, Any]:
    """What ``keep`` wrote; nothing where it is not there or not whole."""
    with contextlib.suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    return {}
