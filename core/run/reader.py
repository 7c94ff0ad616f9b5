"""Which data set reads what was asked for: a name, a path, or NAME:PATH."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract.importing import FAULTS
from ..contract.registry import Entry, Registry
from ..errors import DeepclustError, InvalidData, InvalidSetting, UnknownName, unknown
from ..words import in_one_line

if TYPE_CHECKING:
    from .plan import Chosen

NAMED = re.compile(r"([^:/\\]+):(?!//)(.*)", re.DOTALL)  # a web address is none
DRIVE = re.compile(r"[A-Za-z]:[/\\]")  # of a path on Windows


def split_name(asked: str) -> tuple[str | None, str]:
    """The data set's name and the path of ``NAME:PATH``; None and all of it where it has no such form.

    A path that is there has not, whatever colons are in it, nor has one that begins with a drive.
    """
    found = NAMED.fullmatch(asked)
    if found is None or DRIVE.match(asked) or os.path.exists(os.path.expanduser(asked)):
        return None, asked
    return found[1], found[2]


def stem_of(asked: str) -> str:
    """What folders are called after data: the name of a data set, or of a file without its ending."""
    return Path(split_name(asked)[1]).stem or "data"


def choose_data(
    asked: str,
    registry: Registry,
    choose: Callable[..., Chosen],
    *,
    usual: str | None = None,
    option: str = "--data ",
) -> Chosen:
    """The data set of that name, or the one that reads what stands at that path; NAME:PATH says both.

    choose: makes it of its kind, its name and the settings that are known. usual: the name of the one that
    reads where several say that a path is theirs. option: what stands before the data on the command line.
    Raises UnknownName for no such name, DeepclustError for a path that nothing or more than one reads.
    """
    if not asked.strip():
        raise InvalidSetting(
            f"{option or 'DATA '}is empty; name a data set, a file or a folder, . for this one."
        )
    entries = registry.entries("dataset")
    names = {e.component.name for e in entries}
    if asked in {e.component.name for e in entries if not e.component.reads}:
        return choose("data", "dataset", asked)
    path = Path(os.path.expanduser(asked))  # as it is where there is no such user
    if os.path.exists(path):
        name = _reader(asked, path, registry, usual, option)
        return choose("data", "dataset", name, path=str(path.resolve()))
    if asked in names:
        return _by_settings(asked, choose, option)
    given, rest = split_name(asked)
    if given is not None:
        return _by_name(given, rest, asked, registry, choose, option)
    if path.suffix or len(path.parts) > 1 or "\\" in asked:
        raise _missing(asked, registry)
    raise unknown("data set or path", asked, names)


def _by_settings(name: str, choose: Callable[..., Chosen], option: str) -> Chosen:
    """A data set that reads paths, by its name alone: data.path must say which."""
    chosen = choose("data", "dataset", name)
    if not getattr(chosen.config, "path", True):
        raise InvalidData(
            f"the data set '{name}' reads {kinds_of(chosen.entry)}, and there is no path '{name}'; say "
            f"{option}{name}:PATH."
        )
    return chosen


def _by_name(
    name: str, rest: str, asked: str, registry: Registry, choose: Callable[..., Chosen], option: str
) -> Chosen:
    """The data set ``name`` of the path ``rest``, whatever its ending is."""
    try:
        entry = registry.find("dataset", name)
    except UnknownName:
        names = {e.component.name for e in registry.entries("dataset")}
        raise unknown("data set", name, names, f"There is no path '{asked}' either.") from None
    if not entry.component.reads:
        raise InvalidSetting(f"the data set '{name}' reads no paths; say {option}{name} without '{rest}'.")
    if not rest.strip():
        raise InvalidSetting(f"'{asked}' lacks the path; say {option}{name}:PATH, . for this folder.")
    path = Path(os.path.expanduser(rest))
    if not os.path.exists(path):
        raise _missing(rest, registry)
    return choose("data", "dataset", name, path=str(path.resolve()))


def _reader(asked: str, path: Path, registry: Registry, usual: str | None, option: str) -> str:
    """The name of the data set that reads what stands at ``path``."""
    there = registry.readers(path)
    what = f"'{asked}', a {'folder' if path.is_dir() else 'file'}"
    if not there:
        raise InvalidData(
            f"nothing installed reads {what}; what can be read: {', '.join(_readable(registry))}. "
            f"{option}NAME:PATH has the data set NAME read it all the same."
        )
    if len(there) == 1:
        return there[0].component.name
    said = [(entry, _is_own(entry, path, registry)) for entry in there]
    working = [entry for entry, own in said if own is not None]
    if len(working) == 1:  # as if it were alone
        return working[0].component.name
    found = [entry for entry, own in said if own]
    names = [entry.component.name for entry in found]
    if len(names) == 1 or usual in names:
        return usual if usual in names else names[0]
    verdict = "each say that it is theirs" if found else "do not know it as theirs"
    who = " and ".join(
        f"'{e.component.name}' (plugin '{e.plugin}', {e.distribution} {e.version})" for e in found or there
    )
    ways = " or ".join(f"{option}{e.component.name}:{asked}" for e in found or there)
    raise InvalidData(f"{what}: the data sets {who} {verdict}; say which is to read it: {ways}.")


def _is_own(entry: Entry, path: Path, registry: Registry) -> bool | None:
    """Whether a data set says that ``path`` is its own; None, with a note, for one that fails to say it."""
    name = entry.component.name
    try:
        return bool(registry.load("dataset", name).sniff(path))
    except FAULTS as error:
        reason = str(error).rstrip(".") if isinstance(error, DeepclustError) else in_one_line(error)
        _note(
            f"the data set '{name}' (plugin '{entry.plugin}', {entry.distribution} {entry.version}) could "
            f"not say whether it reads '{path}' and is left out: {reason}."
        )
        return None


@cache
def _note(text: str) -> None:
    """Say it on standard error, once in a process: a comparison asks for its data many times."""
    print(f"Note: {text}", file=sys.stderr)


def _missing(path: str, registry: Registry) -> DeepclustError:
    return DeepclustError(
        f"the data path '{path}' does not exist (looked in '{Path.cwd()}'); give one of "
        f"{', '.join(_readable(registry))}, or the name of a data set from `deepclust list dataset`."
    )


def _readable(registry: Registry) -> list[str]:
    """What installed data sets read, in words: endings, then folders with who reads them."""
    entries = registry.entries("dataset")
    folders = [e.component.name for e in entries if "/" in e.component.reads]
    endings = sorted({r for e in entries for r in e.component.reads if r != "/"})
    return [*endings, *([f"a folder ({', '.join(folders)})"] if folders else [])]


def kinds_of(entry: Entry) -> str:
    """What a data set reads, in words: ``.csv, .tsv``, ``folders``; empty where it is known by name alone."""
    return ", ".join("folders" if ending == "/" else ending for ending in entry.component.reads)
