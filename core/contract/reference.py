"""Components that no plugin offers: a class in a file or module, named by it, or given in Python."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BrokenPlugin, DeepclustError, UnknownName, unknown
from ..words import in_one_line, one_line
from .component import KINDS, Component
from .importing import FAULTS

FORM = "FILE.py:Class or package.module:Class"
MAIN = "__main__"  # the module of a notebook or script

_lock = threading.RLock()
_ran: dict[Path, ModuleType] = {}  # the files that were run, each once
_digests: dict[Path, str] = {}  # of files as they were run or imported
_given: dict[str, type[Any]] = {}  # classes that no other process can find, by what they are called here


@dataclass(frozen=True)
class Referred(Component):
    """A class that is called by its reference, which has another form than the names of components."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class Found:
    """What a reference stands for.

    name: the reference by which other processes find it too. source: the file that the class is in. version:
    a digest of that file as it was imported.
    """

    name: str
    cls: type[Any]
    source: str
    version: str

    @property
    def component(self) -> Component:
        """As a plugin would offer it."""
        summary = (vars(self.cls).get("__doc__") or "").strip().partition("\n")[0]
        supervised = bool(getattr(self.cls, "supervised", False))
        return Referred(self.name, self.name, one_line(summary), supervised=supervised)


def is_reference(name: str) -> bool:
    """Whether a component's name is a reference: names of plugins' components have no colon."""
    return ":" in name


def short(name: str) -> str:
    """A component's name where it has to be short, and in names of folders: of a reference the class's."""
    return name.rpartition(":")[2].rpartition(".")[2] if is_reference(name) else name


def find(name: str, kind: str = "") -> Found:
    """The class of a reference, of a component of any kind or of this one.

    The forms: ``FILE.py:Class``, whose file is run once, as a module of its own; ``package.module:Class``,
    found from the working folder as well; ``FOLDER:package.module:Class``, found from that folder. What
    stands beside a file, or in the folder, can be imported by it from then on.

    Raises UnknownName for a file, module or class that is not there, BrokenPlugin where importing it fails.
    """
    asked, where, attribute = f"{kind or 'component'} '{name}'", *_split(name)
    if name in _given:
        return _found_given(name, _given[name])
    if where == MAIN or "<" in attribute:
        made = _attribute(sys.modules[MAIN], attribute) if where == MAIN else None
        if isinstance(made, type):
            return _found_given(name, made)
        raise UnknownName(
            f"the class '{short(name)}' is of a notebook, a script or a function in another process, where "
            "nothing can find it; put it into a file, and train with the class that is imported from there."
        )
    if not where or not attribute:
        raise UnknownName(f"{asked} names no class: say {FORM}.")
    if where.endswith(".py"):
        path = Path(os.path.expanduser(where)).resolve()
        made = _class(_run(path, asked), attribute, kind, asked)
        return Found(f"{path}:{attribute}", made, str(path), _digests[path])
    module = _import(where, asked)
    return _found_in(module, attribute, _class(module, attribute, kind, asked))


def name_of(cls: type[Any]) -> str:
    """The reference by which ``find`` finds a class; other processes too, unless it is in no file."""
    module = sys.modules.get(cls.__module__)
    if module is not None and cls.__module__ != MAIN and _attribute(module, cls.__qualname__) is cls:
        for path, ran in _ran.items():
            if ran is module:
                return f"{path}:{cls.__qualname__}"
        if getattr(module, "__file__", None):
            return _found_in(module, cls.__qualname__, cls).name
    name = f"{cls.__module__}:{cls.__qualname__}"
    _given[name] = cls
    return name


def kind_of(name: str) -> str:
    """The kind of component that a reference stands for; raises as ``find``."""
    cls = find(name).cls
    for kind in KINDS:
        if issubclass(cls, _interface(kind)):
            return kind
    raise BrokenPlugin(
        f"'{name}' is no component: it is no subclass of "
        f"{', '.join(f'deepclust.core.{_interface(kind).__name__}' for kind in KINDS)}."
    )


def without_class(name: str, kind: str) -> DeepclustError | None:
    """The error for a name that is a path, of whose classes none is named; None for other names."""
    if not (name.endswith(".py") or os.sep in name):
        return None
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        return UnknownName(f"there is no {kind} '{name}', and no such file; say {FORM}.")
    classes: list[str] = []
    with suppress(OSError, SyntaxError, ValueError):
        tree = ast.parse(path.read_bytes())
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    which = f" Its classes are {', '.join(classes)}." if classes else ""
    return UnknownName(f"'{name}' is a file: say which class of it is the {kind}, {name}:CLASS.{which}")


def _split(name: str) -> tuple[str, str]:
    where, _, attribute = name.rpartition(":")
    return where.strip(), attribute.strip()


def _found_given(name: str, cls: type[Any]) -> Found:
    source = ""
    with suppress(OSError, TypeError):
        source = inspect.getsource(cls)
    return Found(name, cls, cls.__module__, _digest(source.encode()) if source else "?")


def _found_in(module: ModuleType, attribute: str, cls: type[Any]) -> Found:
    """A class in an imported module, by the folder that the module is found from."""
    name = f"{module.__name__}:{attribute}"
    if getattr(module, "__file__", None) is None:
        return Found(name, cls, module.__name__, "?")
    file = Path(str(module.__file__)).resolve()
    with _lock:
        if file not in _digests:
            _digests[file] = _digest(file.read_bytes()) if file.is_file() else "?"
    root = _root(module, file)
    installed = {Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib", "stdlib")}
    return Found(name if root in installed else f"{root}:{name}", cls, str(file), _digests[file])


def _root(module: ModuleType, file: Path) -> Path:
    """The folder that a module is imported from."""
    return file.parents[module.__name__.count(".") + (file.name == "__init__.py")]


def _run(path: Path, asked: str) -> ModuleType:
    """The module that a file is, which is run where it was not yet."""
    with _lock:
        if path in _ran:
            return _ran[path]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UnknownName(
                f"the file '{path}' of {asked} cannot be read ({error.strerror}); name the file that it is "
                "in, or put it back there: a model holds the weights, not the code."
            ) from error
        module = ModuleType(f"_deepclust_{path.stem}_{_digest(str(path).encode())}")
        module.__file__ = str(path)
        _make_importable(path.parent)
        sys.modules[module.__name__] = module
        try:
            with _sentence(str(path), asked):
                exec(compile(content, str(path), "exec"), vars(module))
        except DeepclustError:
            del sys.modules[module.__name__]
            raise
        _ran[path], _digests[path] = module, _digest(content)
        return module


def _import(where: str, asked: str) -> ModuleType:
    """The module of ``package.module`` or ``FOLDER:package.module``."""
    root, _, name = where.rpartition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise UnknownName(f"{asked} names no class: say {FORM}.")
    folder = Path(os.path.expanduser(root)).resolve() if root else Path.cwd()
    _make_importable(folder)
    with _lock, _sentence(name, asked):
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):  # it is there, and imports what is not
                raise
            raise UnknownName(
                f"there is no module '{error.name}' for {asked}, neither in '{folder}' nor among what is "
                f"installed; say {FORM}."
            ) from error
    file = getattr(module, "__file__", None)
    if root and folder.is_dir() and (file is None or _root(module, Path(file).resolve()) != folder):
        raise BrokenPlugin(
            f"{asked} is in '{folder}', but the module '{name}' was found in '{file}' before it; give one of "
            "them another name."
        )
    return module


def _make_importable(folder: Path) -> None:
    """Let modules in ``folder`` be imported, unless others are called so."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def _sentence(what: str, asked: str) -> Iterator[None]:
    """Importing within prints nothing on standard output, and how it fails is a sentence."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except DeepclustError:
        raise
    except FAULTS as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == what
        ]
        at = f" (line {lines[-1]})" if lines else ""
        advice = ""
        if isinstance(error, ImportError) and "relative import" in str(error):
            advice = " A module of a package is named package.module:Class."
        raise BrokenPlugin(
            f"{asked}: '{what}' cannot be imported: {in_one_line(error)}{at}.{advice}"
        ) from error


def _class(module: ModuleType, attribute: str, kind: str, asked: str) -> type[Any]:
    """The class in a module; it may be of another kind, which is for the registry to say."""
    found = _attribute(module, attribute)
    file = getattr(module, "__file__", None) or module.__name__
    wanted = tuple(_interface(k) for k in ([kind] if kind else KINDS))
    there = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, wanted) and not inspect.isabstract(value)
    ]
    if found is None:
        raise unknown(f"{kind or 'component'} in '{file}' called", attribute, there)
    if not (isinstance(found, type) and issubclass(found, wanted)):
        names = ", ".join(f"deepclust.core.{interface.__name__}" for interface in wanted)
        has = f" There is: {', '.join(there)}." if there else ""
        raise BrokenPlugin(f"{asked} is no subclass of {names}.{has}")
    return found


def _attribute(module: ModuleType, qualified: str) -> Any:
    found: Any = module
    for name in qualified.split("."):
        found = getattr(found, name, None)
    return found


def _interface(kind: str) -> type[Any]:
    from . import interfaces

    found: type[Any] = getattr(interfaces, kind.capitalize())
    return found


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()
