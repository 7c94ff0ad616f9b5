"""The systems of published articles as settings: a TOML file each, run by name."""

from collections.abc import Iterator
from pathlib import Path

from ...core import Recipe, hookimpl


@hookimpl
def deepclust_recipes() -> Iterator[Recipe]:
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        yield Recipe(path.stem, path)
