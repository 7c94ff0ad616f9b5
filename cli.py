"""The command line. Each command imports what it needs inside its body, so that help is instant."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .core.allocation import keep_memory
from .core.component import KINDS
from .core.errors import DeepclustError, UnhealthyResult


class _Group(click.Group):
    """Turns errors that are meant for the user into one line and their exit code."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> Any:
        if args is None:  # the process was started for this command
            keep_memory()
        return super().main(args, *rest, **more)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._add_plugin_commands()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._add_plugin_commands()
        return super().list_commands(ctx)

    def _add_plugin_commands(self) -> None:
        from .core.registry import installed

        if not getattr(self, "_extended", False):
            self._extended = True
            installed().add_commands(self)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from .core.errors import unknown

            raise unknown("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DeepclustError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as stop:
            where = f" in {stop}" if str(stop) else ""
            again = shlex.join(["deepclust", *sys.argv[1:]])
            click.echo(f"\nInterrupted{where}. To go on from there: {again}", err=True)
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deepclust")
def main() -> None:
    """Deep clustering: any encoder with any clusterer, by name.

    \b
    deepclust run --encoder sdae --clusterer dec     cluster the bundled digits
    deepclust compare --clusterer kmeans,dec         a table over several seeds
    deepclust predict runs/NAME DATA -o labels.csv   new data, sorted by a finished run
    deepclust export runs/NAME model.onnx            its model as one file
    deepclust list                                   what is installed
    deepclust info dec                               its settings and its paper
    """


# fmt: off
_PLACE = [  # options of all that read data
    click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", default=Path("data"),
                 show_default=True, envvar="DEEPCLUST_DATA", help="Where data sets lie on disk."),
    click.option("--download", is_flag=True, help="Fetch a data set that is not there."),
    click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", envvar="DEEPCLUST_CACHE",
                 help="Where decoded images are kept.  [default: ~/.cache/deepclust]"),
    click.option("-q", "--quiet", is_flag=True, help="Only errors and notices, on standard error."),
]
_SORTING = [
    click.option("--sort-into", type=click.Path(path_type=Path), metavar="DIR",
                 help="A folder for each cluster, with links to the files of the data."),
    click.option("--copy", is_flag=True, help="Copy the files with --sort-into instead of linking."),
]
_COMMON = [  # options of run and compare
    click.option("--recipe", metavar="NAME", help="A published system; `deepclust list recipes` shows them. "
                 "Everything else that is given wins over it."),
    click.option("--data", metavar="NAME|PATH", help="A data set by name, a folder of images, a .csv, "
                 ".tsv, .npy or .npz file.  [default: digits]"),
    click.option("--clusters", metavar="K", help="A number, auto, or auto:2-30.  [default: the data set's, "
                 "or auto]"),
    click.option("--labels", metavar="WHERE", help="True classes: `folders` of images or `parent` folders, a "
                 "table's column, a .npy file.  For scores, and for encoders that learn from labels."),
    click.option("--image-size", metavar="N|HxW", help="Size that images of a folder are brought to."),
    click.option("--epochs-scale", type=float, metavar="F",
                 help="Multiplies all training lengths: 0.1 for a quick look.  [default: 1]"),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]"),
    click.option("--precision", type=click.Choice(["auto", "float32", "bf16"]),
                 help="auto: bf16 where the hardware is fast at it.  [default: auto]"),
    click.option("--evaluator", "evaluators", multiple=True, metavar="NAME",
                 help="May be given several times.  [default: clustering report]"),
    click.option("-s", "--set", "assignments", multiple=True, metavar="PART.KEY=VALUE",
                 help="A setting, such as encoder.epochs=50; `deepclust info NAME` lists them."),
    click.option("--config", type=click.Path(path_type=Path), metavar="FILE",
                 help="TOML: tables [run], [encoder], [clusterer], [data]; options win over it."),
    click.option("--overwrite", is_flag=True, help="Replace the run in the folder, start from nothing."),
    click.option("--snapshot-seconds", type=click.FloatRange(min=0), default=30, metavar="S",
                 show_default=True, help="Least time between two snapshots."),
    *_PLACE,
]
# fmt: on


def _with(options: Sequence[Any]) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@main.command()
@click.option("--encoder", metavar="NAME", help="What maps samples to codes.  [default: by the data]")
@click.option("--clusterer", metavar="NAME", help="What sorts codes into clusters.  [default: by the data]")
@click.option("--seed", type=int, metavar="N", help="Same seed, same machine, same bits.  [default: 0]")
@click.option("--minutes", type=float, metavar="M", help="How long it may take: scales training to that.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="The run's folder; the same command goes on there.  [default: runs/...]")  # fmt: skip
@_with([*_SORTING, *_COMMON])
def run(
    assignments: tuple[str, ...], config: Path | None, data_root: Path, download: bool, cache: Path | None,
    out: Path | None, overwrite: bool, snapshot_seconds: float, quiet: bool, labels: str | None,
    image_size: str | None, evaluators: tuple[str, ...], sort_into: Path | None, copy: bool,
    recipe: str | None, **options: Any,
) -> None:  # fmt: skip
    """Cluster data: train an encoder, then a clusterer, and write labels, scores and the model.

    \b
    deepclust run                                           bundled digits, what suits them
    deepclust run --data photos.npy --clusters 12 --out runs/photos
    deepclust run --data mnist --data-root ~/data -s encoder.epochs=50 -s clusterer.tol=0.0005

    The folder --out gets labels.csv, scores.json, run.json, model.safetensors and a log and a
    snapshot for each stage. A run that was stopped goes on when the same command is given again.

    Exit codes: 0 where all is well; 3 where the result is unhealthy, such as clusters that are empty:
    everything is written, the reasons stand in red at the end; 2 where the request cannot be carried
    out; 1 where training fails.
    """
    from .core.plan import request_from

    options["evaluators"] = evaluators or None
    tables, settings = _asked(config, assignments, labels, image_size, recipe, options)
    request = request_from(tables, {**options, "settings": settings})

    from .core import pipeline, sorting
    from .core.interfaces import Place
    from .core.scores import reasons

    sorter = sorting.asked_for(sort_into, copy)
    outcome = pipeline.run(
        request,
        Place(Path(os.path.expanduser(data_root)), download, cache, quiet),
        out,
        check=None if sorter is None else sorter.check,
        overwrite=overwrite,
        quiet=quiet,
        snapshot_seconds=snapshot_seconds,
    )
    if sorter is not None:
        sorter.sort_run(outcome.folder, quiet=quiet)
    _show_outcome(outcome, quiet)
    if reasons(outcome.scores):
        raise click.exceptions.Exit(UnhealthyResult.exit_code)


def _asked(
    config: Path | None, assignments: tuple[str, ...], labels: str | None, image_size: str | None,
    recipe: str | None, options: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:  # fmt: skip
    """The tables of recipe and configuration file, and the settings that win over them."""
    from .core import config as configs

    tables = configs.read_toml(config) if config else {}
    if recipe is not None:
        from .core import recipe as recipes
        from .core.registry import installed

        tables = recipes.apply(installed().recipe(recipe), tables, options)
    settings = configs.parse_assignments(assignments)
    for key, value in (("labels", labels), ("image_size", image_size)):
        if value is not None:
            settings.setdefault("data", {})[key] = value
    return tables, settings


def _show_outcome(outcome: Any, quiet: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from .core import scores
    from .core.console import tell

    said = scores.remarks(outcome.scores), scores.reasons(outcome.scores)
    if quiet:
        tell(*said, quiet=True)
        return
    table = Table(show_header=False, box=None)
    for values in scores.by_evaluator(outcome.scores).values():
        for name, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], list):
                continue  # matrices are in scores.json
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), shown)
    console = Console(highlight=False, markup=False)
    if outcome.was_finished:
        console.print("This run was finished already; --overwrite runs it again.")
    console.print(table)
    if outcome.scores.get("protocol", {}).get("labels used in training"):
        console.print("The encoder learned from the labels: no clustering without labels.")
    tell(*said)
    console.print(f"Labels, scores and model are in {outcome.folder}", soft_wrap=True)
    report = outcome.folder / "report.html"
    if report.exists():
        console.print(f"Open {report} to look at the clusters", soft_wrap=True)


@main.command()
@click.option("--encoder", metavar="A,B", help="One or several.  [default: sdae]")
@click.option("--clusterer", metavar="C,D", help="One or several.  [default: kmeans,dec]")
@click.option("--seeds", metavar="N|LIST", help="How many, or which: 0,3,7.  [default: 5]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="The same command goes on there.  [default: runs/DATA-compare]")  # fmt: skip
@_with(_COMMON)
def compare(
    assignments: tuple[str, ...], config: Path | None, data_root: Path, download: bool, cache: Path | None,
    out: Path | None, overwrite: bool, snapshot_seconds: float, quiet: bool, labels: str | None,
    image_size: str | None, evaluators: tuple[str, ...], recipe: str | None, **options: Any,
) -> None:  # fmt: skip
    """Run every encoder with every clusterer over several seeds, and write a table of the scores.

    \b
    deepclust compare --clusterer kmeans,dec --seeds 5 --out runs/digits
    deepclust compare --data mnist --encoder sdae --clusterer dec -s dec.tol=0.0005

    A setting goes to all (encoder.epochs=50) or to one by its name (sdae.epochs=50). Each run is an
    ordinary one under DIR/runs; an encoder is trained once for each seed. DIR gets results.csv,
    table.csv and compare.html. A comparison that was stopped goes on with the same command.
    Unhealthy runs are marked and counted, and change no exit code.
    """
    from .core import comparison
    from .core.errors import TrainingFailed
    from .core.interfaces import Place
    from .core.words import counted

    options["evaluators"] = evaluators or None
    tables, settings = _asked(config, assignments, labels, image_size, recipe, options)
    overrides = {**options, "settings": settings}
    folder, table = comparison.compare(
        comparison.comparison_from(tables, overrides),
        Place(Path(os.path.expanduser(data_root)), download, cache, quiet),
        out,
        overwrite=overwrite,
        quiet=quiet,
        snapshot_seconds=snapshot_seconds,
    )
    if not quiet:
        from rich.console import Console

        table.show(Console())
    table.tell(quiet=quiet)
    if not quiet:
        click.echo(f"Tables, page and runs are in {folder}")
    if failed := comparison.failed_runs(table):
        runs = counted(len(table.trials), "run")
        raise TrainingFailed(f"{len(failed)} of {runs} failed: see '{folder}/table.csv'.")


@main.command()
@click.argument("model", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The table of labels, as labels.csv of a run.")  # fmt: skip
@click.option("--embedding", type=click.Path(path_type=Path), metavar="FILE", help="The codes, as .npy.")
@_with(_SORTING)
@click.option("-s", "--set", "assignments", multiple=True, metavar="data.KEY=VALUE",
              help="How DATA are read, such as data.id=name.")  # fmt: skip
@click.option(
    "--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]"
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@_with(_PLACE)
def predict(
    model: Path, data: str, out: Path | None, embedding: Path | None, sort_into: Path | None, copy: bool,
    assignments: tuple[str, ...], device: str, overwrite: bool, data_root: Path, download: bool,
    cache: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Sort new data into the clusters of a finished run.

    \b
    deepclust predict runs/photos more-photos/ -o labels.csv
    deepclust predict runs/photos more-photos/ --sort-into sorted

    RUN is the folder of a run or a .safetensors file of one; DATA is a name or a path, as --data of
    run. With no file to write, the sizes of the clusters are shown.
    """
    from .core import config as configs
    from .core import prediction, sorting
    from .core.interfaces import Place

    predicted = prediction.carry_out(
        model, data, Place(Path(os.path.expanduser(data_root)), download, cache, quiet),
        settings=configs.parse_assignments(assignments), device=device, labels=out, embedding=embedding,
        sorting=sorting.asked_for(sort_into, copy), overwrite=overwrite,
    )  # fmt: skip
    if not quiet:
        prediction.show(predicted, out)


@main.command()
@click.argument("model", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE where it is there.")
@_with(_PLACE)
def export(
    model: Path, file: Path, overwrite: bool, data_root: Path, download: bool, cache: Path | None, quiet: bool
) -> None:
    """Write the model of a finished run to FILE, checked: .safetensors, .pt2 or .onnx.

    \b
    deepclust export runs/photos photos.onnx

    FILE maps samples x, on the scale that networks see, to labels, soft assignments q and codes z.
    """
    from .core import export as exports
    from .core.interfaces import Place

    place = Place(Path(os.path.expanduser(data_root)), download, cache, quiet)
    checked = exports.export(model, file, place, overwrite=overwrite)
    if not quiet:
        click.echo(f"{file}: {checked}")


@main.command("list")
@click.argument("kind", required=False, metavar="[KIND]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_components(kind: str | None, as_json: bool) -> None:
    """What is installed: encoders, clusterers, evaluators, data sets, recipes, third parties' included.

    KIND is encoder, clusterer, evaluator, dataset or recipe.
    """
    from .core import listing
    from .core.errors import unknown
    from .core.registry import installed

    if kind is not None:
        singular = kind.removesuffix("s")
        if singular not in (*KINDS, "recipe"):
            raise unknown("kind of component", kind, (*KINDS, "recipe"))
        kind = singular
    registry = installed()
    if as_json:
        click.echo(json.dumps(listing.as_json(registry, kind), indent=2))
        return
    listing.show_components(registry, kind)


@main.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Where a name stands for several kinds.")
def info(name: str, kind: str | None) -> None:
    """A component's settings, with type, default and help, its presets and its paper; a recipe's file."""
    from .core import listing
    from .core.errors import unknown
    from .core.registry import installed

    registry = installed()
    entries = [e for e in registry.entries(kind) if e.component.name == name]
    recipes = {e.recipe.name: e.recipe for e in registry.recipes()} if kind is None else {}
    if not entries and name in recipes:
        click.echo(recipes[name].path.read_text(encoding="utf-8"), nl=False)
        return
    if not entries:
        names = {e.component.name for e in registry.entries(kind)} | set(recipes)
        raise unknown(kind or "component", name, names)
    for found in sorted({e.kind for e in entries}, key=KINDS.index):
        listing.show_settings(registry, found, name)


if __name__ == "__main__":
    main()
