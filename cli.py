"""The command line. Each command imports what it needs inside its body, so that help is instant."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .core.contract.component import KINDS
from .core.errors import DeepclustError, PluginFailed, UnhealthyResult
from .core.run.allocation import keep_memory
from .core.run.options import COMMON, SORTING, asked, storage_of, with_options


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
        from .core.contract.registry import installed

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
            from .core.unforeseen import sentence_of

            if ctx.params.get("debug") and isinstance(error, PluginFailed):
                raise
            click.echo(f"Error: {sentence_of(error)}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as stop:
            where = f" in {stop}" if str(stop) else ""
            again = shlex.join(["deepclust", *sys.argv[1:]])
            click.echo(f"\nInterrupted{where}. To go on from there: {again}", err=True)
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            from .core.unforeseen import sentence_of

            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {sentence_of(error)}", err=True)
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deepclust")
@click.option("--debug", is_flag=True, help="Show the traceback of an error that nobody foresaw.")
def main(debug: bool) -> None:
    """Deep clustering: any encoder with any clusterer, by name.

    \b
    deepclust run --encoder sdae --clusterer dec     cluster the bundled digits
    deepclust compare --clusterer kmeans,dec         a table over several seeds
    deepclust predict runs/NAME DATA -o labels.csv   new data, sorted by a finished run
    deepclust evaluate runs/NAME --evaluator svm     more scores of a finished run
    deepclust export runs/NAME model.onnx            its model as one file
    deepclust list                                   what is installed
    deepclust info dec                               its settings and its paper
    """


@main.command()
@click.option("--encoder", metavar="NAME", help="What maps samples to codes: a name from `deepclust list`, "
              "or FILE.py:Class.  [default: by the data]")  # fmt: skip
@click.option("--clusterer", metavar="NAME", help="What sorts codes into clusters.  [default: by the data]")
@click.option("--seed", type=int, metavar="N", help="Same seed, same machine, same bits.  [default: 0]")
@click.option("--minutes", type=float, metavar="M", help="How long it may take: scales training to that.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="The run's folder; the same command goes on there.  [default: runs/...]")  # fmt: skip
@with_options([*SORTING, *COMMON])
def run(
    assignments: tuple[str, ...], config: Path | None, data_root: Path, download: bool, cache: Path | None,
    out: Path | None, overwrite: bool, snapshot_seconds: float, quiet: bool, labels: str | None,
    items: str | None, image_size: str | None, evaluators: tuple[str, ...], sort_into: Path | None,
    copy: bool, recipe: str | None, **options: Any,
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
    from .core.run.plan import request_from

    options["evaluators"] = evaluators or None
    tables, settings = asked(config, assignments, labels, image_size, items, recipe, options)
    request = request_from(tables, {**options, "settings": settings})

    from .core.run import pipeline, sorting
    from .core.run.outcome import show_outcome
    from .core.run.scores import reasons

    sorter = sorting.asked_for(sort_into, copy)
    outcome = pipeline.run(
        request,
        storage_of(data_root, download, cache, quiet),
        out,
        check=None if sorter is None else sorter.check,
        overwrite=overwrite,
        quiet=quiet,
        snapshot_seconds=snapshot_seconds,
    )
    if sorter is not None:
        sorter.sort(outcome.data, outcome.labels, outcome.n_clusters, quiet=quiet)
    show_outcome(outcome, quiet)
    if reasons(outcome.summary):
        raise click.exceptions.Exit(UnhealthyResult.exit_code)


@main.command("list")
@click.argument("kind", required=False, metavar="[KIND]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_components(kind: str | None, as_json: bool) -> None:
    """What is installed: encoders, clusterers, evaluators, data sets, recipes, third parties' included.

    KIND is encoder, clusterer, evaluator, dataset or recipe; or plugin, for every plugin with its
    distribution, version, hooks, how long its import took, and what is wrong with it.

    \b
    deepclust list
    deepclust list encoders --json
    deepclust list plugins
    """
    from .core.contract.registry import installed
    from .core.errors import unknown
    from .core.run import listing

    if kind is not None:
        singular = kind.removesuffix("s")
        if singular not in (*KINDS, "recipe", "plugin"):
            raise unknown("kind of component", kind, (*KINDS, "recipe", "plugin"))
        kind = singular
    registry = installed()
    if kind == "plugin":
        if as_json:
            click.echo(json.dumps(listing.plugins_as_json(registry), indent=2))
        else:
            listing.show_plugins(registry)
        return
    if as_json:
        click.echo(json.dumps(listing.as_json(registry, kind), indent=2))
        return
    listing.show_components(registry, kind)


@main.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Where a name stands for several kinds.")
def info(name: str, kind: str | None) -> None:
    """A component's settings, with type, default and help, its presets and its paper; a recipe's file.

    A component that no plugin offers is FILE.py:Class or package.module:Class.
    """
    from .core.contract.reference import is_reference, kind_of, without_class
    from .core.contract.registry import installed
    from .core.errors import unknown
    from .core.run import listing

    registry = installed()
    if is_reference(name):
        listing.show_settings(registry, kind or kind_of(name), name)
        return
    if error := without_class(name, kind or "component"):
        raise error
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
