"""What is shipped, what is loaded, and which way imports point."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import deepclust

ROOT = Path(__file__).resolve().parent.parent
NO_PACKAGES = {"tests", "benchmarks", "docs", "examples", "build", "dist", "runs", "data", "shared"}
# what several plugins, or users, import; no hooks of their own
SHARED = {"views", "classifier", "refinement", "estimator"}
HEAVY = {"torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib"}


def package_folders() -> dict[str, Path]:
    """Each package of the tree by its import name."""
    found = {}
    for init in ROOT.rglob("__init__.py"):
        parts = init.parent.relative_to(ROOT).parts
        if not parts or not (parts[0] in NO_PACKAGES or any(p.startswith(".") for p in parts)):
            found[".".join(("deepclust", *parts))] = init.parent
    return found


@cache
def modules() -> dict[str, Path]:
    """Each module of the packages by its import name."""
    return {
        f"{package}.{path.stem}".removesuffix(".__init__"): path
        for package, folder in package_folders().items()
        for path in folder.glob("*.py")
    }


def imports(module: str, path: Path) -> Iterator[str]:
    """What a module imports, anywhere in it, as absolute names; of a package also the names from it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(name, package) if node.level else name
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_search_for_imports_sees_each_form(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("import a.b\nfrom . import c\ndef f():\n    from ...core.x import y\n    from d import e")
    found = set(imports("deepclust.plugins.p.model", path))
    assert found == {
        "a.b", "deepclust.plugins.p", "deepclust.plugins.p.c", "deepclust.core.x", "deepclust.core.x.y",
        "d", "d.e",
    }  # fmt: skip
    assert len(modules()) > 30
    assert "deepclust.core.engine.trainer" in modules()


def test_the_core_imports_no_plugin_and_no_command_line():
    for module, path in modules().items():
        if within(module, "deepclust.core"):
            wrong = {
                n for n in imports(module, path) if within(n, "deepclust.plugins") or n == "deepclust.cli"
            }
            assert not wrong, f"{module} imports {wrong}"


def test_the_engine_knows_no_component():
    unknown_to_it = ("contract", "data", "run", "toolbox")
    for module, path in modules().items():
        if within(module, "deepclust.core.engine"):
            names = set(imports(module, path))
            wrong = {n for n in names for m in unknown_to_it if within(n, f"deepclust.core.{m}")}
            assert not wrong, f"{module} imports {wrong}"


def at_run_time(module, path):
    """The modules of the tree that a module imports when it is imported itself."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (
                whole if (whole := f"{source}.{alias.name}") in modules() else source for alias in node.names
            )


def test_imports_go_in_no_circle():
    """What is imported at run time can be put in an order, each module after what it imports."""
    graph = {module: set(at_run_time(module, path)) & set(modules()) for module, path in modules().items()}
    assert len(graph["deepclust.core.run.pipeline"]) > 10
    order = TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle


def test_the_wings_of_the_core_stand_on_each_other():
    """data, contract and engine below the toolbox, the toolbox below runs, nothing on the tests' kit."""
    below = {
        "data": {"data"},
        "contract": {"contract", "data"},
        "engine": {"engine"},
        "toolbox": {"toolbox", "contract", "data", "engine"},
        "run": {"run", "toolbox", "contract", "data", "engine"},
    }
    for module, path in modules().items():
        wing = module.split(".")[2] if module.startswith("deepclust.core.") else ""
        if wing in below:
            wings = {n.split(".")[2] for n in at_run_time(module, path) if n.startswith("deepclust.core.")}
            wrong = (wings & {*below, "testing"}) - below[wing]
            assert not wrong, f"{module} imports {wrong}"


def test_plugins_import_the_core_and_themselves_alone():
    for module, path in modules().items():
        if within(module, "deepclust.plugins") and module != "deepclust.plugins":
            own = ".".join(module.split(".")[:3])
            ours = {n for n in imports(module, path) if within(n, "deepclust")}
            shared = (f"deepclust.plugins.{name}" for name in ("views", "classifier", "refinement"))
            known = (own, "deepclust.core", *shared)
            wrong = {n for n in ours if not any(within(n, k) for k in known)}
            assert not wrong, f"{module} imports {wrong}"


def test_inside_imports_are_relative():
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not [n for n in names if within(n, "deepclust")], f"{module}, line {node.lineno}"


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "deepclust", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("deepclust, version ")


def test_the_light_half_loads_nothing_heavy():
    steps = (
        "import deepclust",
        "main(['--help'], standalone_mode=False)",
        "main(['run', '--help'], standalone_mode=False)",
        "main(['list'], standalone_mode=False)",
        "main(['list', '--json'], standalone_mode=False)",
        "main(['list', 'plugins'], standalone_mode=False)",
    )
    code = "import sys\nfrom deepclust.cli import main\n" + "".join(
        f"{step}\nprint('LOADED', {step!r}, {HEAVY!r} & set(sys.modules))\n" for step in steps
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert len(lines) == len(steps), done.stdout
    assert all(line.endswith(" set()") for line in lines), lines
    assert "sdae" in done.stdout


def test_the_public_names_are_there():
    for package in (deepclust, importlib.import_module("deepclust.core")):
        for name in package.__all__:
            assert getattr(package, name) is not None
        assert len(set(package.__all__)) == len(package.__all__)
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = package.no_such_name


def test_the_root_holds_the_command_and_no_other_module():
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}
    assert not (ROOT / "tests" / "__init__.py").exists()


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_listed_packages_are_those_of_the_tree():
    assert sorted(pyproject()["tool"]["setuptools"]["packages"]) == sorted(package_folders())


def test_each_plugin_has_its_entry_point():
    plugins = {n.rpartition(".")[2]: n for n in package_folders() if n.count(".") == 2 and ".plugins." in n}
    plugins = {name: module for name, module in plugins.items() if name not in SHARED}
    assert pyproject()["project"]["entry-points"]["deepclust"] == plugins


def test_a_wheel_holds_the_packages_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools", reason="a wheel is built with setuptools")
    copy = tmp_path / "copy"
    anywhere = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "results")

    def left_out(folder, names):
        return anywhere(folder, names) | (NO_PACKAGES & set(names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "-w", str(tmp_path), str(copy)]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,) = tmp_path.glob("deepclust-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        entry_points = archive.read(metadata).decode()
    expected = {f"deepclust/{path.relative_to(ROOT).as_posix()}" for path in modules().values()}
    others = {
        f"deepclust/{path.relative_to(ROOT).as_posix()}"
        for folder in package_folders().values()
        for path in folder.iterdir()
        if folder != ROOT and path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert names == expected | others | {"deepclust/py.typed"}
    assert "deepclust = deepclust.cli:main" in entry_points


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_sections_of_the_documents_that_are_named_exist():
    named = set()
    for path in modules().values():
        named |= set(re.findall(r"(docs/\w+\.md), ([A-Z][\w ]+)", path.read_text(encoding="utf-8")))
    assert ("docs/images.md", "Frozen features") in named
    for page, section in named:
        assert section in headings(ROOT / page), f"{page} has no section '{section}'"
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target, anchor in re.findall(r"\]\(([\w/.]*\.md)?#([\w-]+)\)", page.read_text(encoding="utf-8")):
            there = [
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
                for title in headings(page.parent / target if target else page)
            ]
            assert anchor in there, f"{page.name} links to {target}#{anchor}"
