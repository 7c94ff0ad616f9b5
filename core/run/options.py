"""The options that several commands have, and what they ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..contract.interfaces import Storage

# fmt: off
STORAGE = [  # options of all that read data
    click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", default=Path("data"),
                 show_default=True, envvar="DEEPCLUST_DATA", help="Where data sets lie on disk."),
    click.option("--download", is_flag=True, help="Fetch a data set that is not there."),
    click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", envvar="DEEPCLUST_CACHE",
                 help="Where decoded images are kept.  [default: ~/.cache/deepclust]"),
    click.option("-q", "--quiet", is_flag=True, help="Only errors and notices, on standard error."),
]
SORTING = [
    click.option("--sort-into", type=click.Path(path_type=Path), metavar="DIR",
                 help="A folder for each cluster, with links to the files of the data."),
    click.option("--copy", is_flag=True, help="Copy the files with --sort-into instead of linking."),
]
COMMON = [  # options of run and compare
    click.option("--recipe", metavar="NAME", help="A published system; `deepclust list recipes` shows them. "
                 "Everything else that is given wins over it."),
    click.option("--data", metavar="NAME|PATH", help="A data set by name, a folder of images, a .csv, "
                 ".tsv, .parquet, .jsonl, .npy or .npz file; NAME:PATH says what reads it.  "
                 "[default: digits]"),
    click.option("--clusters", metavar="K", help="A number, auto, or auto:2-30.  [default: the data set's, "
                 "or auto]"),
    click.option("--labels", metavar="WHERE", help="True classes: `folders` of images or `parent` folders, a "
                 "table's column, a .npy file.  For scores, and for encoders that learn from labels."),
    click.option("--items", metavar="FILE", help="A table (.csv, .parquet, .jsonl) with a row for each "
                 "sample: its id, text, path of an image; for labels.csv, the report and --sort-into."),
    click.option("--image-size", metavar="N|HxW", help="Size that images of a folder are brought to."),
    click.option("--epochs-scale", type=float, metavar="F",
                 help="Multiplies all training lengths: 0.1 for a quick look.  [default: 1]"),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]"),
    click.option("--precision", type=click.Choice(["auto", "float32", "bf16"]),
                 help="auto: bf16 where the hardware is fast at it.  [default: auto]"),
    click.option("--evaluator", "evaluators", multiple=True, metavar="NAME",
                 help="May be given several times. +NAME adds to the default, NAME replaces it; they do not "
                 "mix.  [default: clustering report]"),
    click.option("-s", "--set", "assignments", multiple=True, metavar="PART.KEY=VALUE",
                 help="A setting, such as encoder.epochs=50; `deepclust info NAME` lists them."),
    click.option("--config", type=click.Path(path_type=Path), metavar="FILE",
                 help="TOML: tables [run], [encoder], [clusterer], [data]; options win over it."),
    click.option("--overwrite", is_flag=True, help="Replace the run in the folder, start from nothing."),
    click.option("--snapshot-seconds", type=click.FloatRange(min=0), default=30, metavar="S",
                 show_default=True, help="Least time between two snapshots."),
    *STORAGE,
]
# fmt: on


def with_options(options: Sequence[Any]) -> Callable[[Any], Any]:
    """A decorator that gives a command these options."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def asked(
    config: Path | None, assignments: tuple[str, ...], labels: str | None, image_size: str | None,
    items: str | None, recipe: str | None, options: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:  # fmt: skip
    """The tables of recipe and configuration file, and the settings that win over them."""
    from ..contract import config as configs

    tables = configs.read_toml(config) if config else {}
    if recipe is not None:
        from ..contract.registry import installed
        from . import recipe as recipes

        tables = recipes.apply(installed().recipe(recipe), tables, options)
    settings = configs.parse_assignments(assignments)
    for key, value in (("labels", labels), ("image_size", image_size), ("items", items)):
        if value is not None:
            settings.setdefault("data", {})[key] = value
    return tables, settings


def storage_of(data_root: Path, download: bool, cache: Path | None, quiet: bool) -> Storage:
    """Where data lie, as ``PLACE`` asks."""
    from ..contract.interfaces import Storage

    return Storage(Path(os.path.expanduser(data_root)), download, cache, quiet)
