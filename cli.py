"""The command line. Each command imports what it needs inside its body, so that help is instant."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .core.component import KINDS
from .core.errors import DeepclustError

if TYPE_CHECKING:
    from .core.registry import Registry


class _Group(click.Group):
    """Turns errors that are meant for the user into one line and their exit code."""

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
    deepclust list                                   what is installed
    deepclust info dec                               its settings and its paper
    """


@main.command()
@click.option("--encoder", metavar="NAME", help="What maps samples to codes.  [default: sdae]")
@click.option("--clusterer", metavar="NAME", help="What sorts codes into clusters.  [default: dec]")
@click.option(
    "--data",
    metavar="NAME|PATH",
    help="A data set by name, a folder of images, a .csv, .npy or .npz file.  [default: digits]",
)
@click.option("--clusters", metavar="K", help="A number, auto, or auto:2-30.  [default: the data set's]")
@click.option("--labels", metavar="WHERE", help="True classes, for scores alone: `folders` of images, a "
              "column of a table, a .npy file.  Short for -s data.labels=WHERE.")  # fmt: skip
@click.option("--image-size", metavar="N|HxW", help="Size that images of a folder are brought to.")
@click.option("--seed", type=int, metavar="N", help="Same seed, same machine, same bits.  [default: 0]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="The run's folder; the same command goes on there.  [default: runs/...]")  # fmt: skip
@click.option("--epochs-scale", type=float, metavar="F",
              help="Multiplies all training lengths: 0.1 for a quick look.  [default: 1]")  # fmt: skip
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]")
@click.option("--precision", type=click.Choice(["auto", "float32", "bf16"]),
              help="auto: bf16 where the hardware is fast at it.  [default: auto]")  # fmt: skip
@click.option("--evaluator", "evaluators", multiple=True, metavar="NAME",
              help="May be given several times.  [default: clustering]")  # fmt: skip
@click.option("-s", "--set", "assignments", multiple=True, metavar="PART.KEY=VALUE",
              help="A setting, such as encoder.epochs=50; `deepclust info NAME` lists them.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE",
              help="TOML: tables [run], [encoder], [clusterer], [data]; options win over it.")  # fmt: skip
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", default=Path("data"),
              show_default=True, envvar="DEEPCLUST_DATA", help="Where data sets lie on disk.")  # fmt: skip
@click.option("--download", is_flag=True, help="Fetch a data set that is not there.")
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", envvar="DEEPCLUST_CACHE",
              help="Where decoded images are kept.  [default: ~/.cache/deepclust]")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the run in the folder, start from nothing.")
@click.option("--snapshot-seconds", type=click.FloatRange(min=0), default=30, metavar="S",
              show_default=True, help="Least time between two snapshots.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress; only errors.")
def run(
    assignments: tuple[str, ...], config: Path | None, data_root: Path, download: bool, cache: Path | None,
    out: Path | None, overwrite: bool, snapshot_seconds: float, quiet: bool, labels: str | None,
    image_size: str | None, evaluators: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Cluster data: train an encoder, then a clusterer, and write labels, scores and the model.

    \b
    deepclust run                                           bundled digits, sdae + dec
    deepclust run --data photos.npy --clusters 12 --out runs/photos
    deepclust run --data mnist --data-root ~/data -s encoder.epochs=50 -s clusterer.tol=0.0005

    The folder --out gets labels.csv, scores.json, run.json, model.safetensors and a log and a
    snapshot for each stage. A run that was stopped goes on when the same command is given again.
    """
    from .core import config as configs
    from .core.plan import request_from

    tables = configs.read_toml(config) if config else {}
    settings = configs.parse_assignments(assignments)
    for key, value in (("labels", labels), ("image_size", image_size)):
        if value is not None:
            settings.setdefault("data", {})[key] = value
    overrides = {**options, "settings": settings}
    request = request_from(tables, {**overrides, "evaluators": evaluators or None})

    from .core import pipeline
    from .core.interfaces import Place

    outcome = pipeline.run(
        request,
        Place(Path(os.path.expanduser(data_root)), download, cache, quiet),
        out,
        overwrite=overwrite,
        quiet=quiet,
        snapshot_seconds=snapshot_seconds,
    )
    if not quiet:
        _show_outcome(outcome)


def _show_outcome(outcome: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for part, values in outcome.scores.items():
        if part in ("protocol", "seconds", "resumed"):
            continue
        for name, value in values.items():
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), shown)
    console = Console()
    if outcome.was_finished:
        console.print("This run was finished already; --overwrite runs it again.", highlight=False)
    console.print(table)
    console.print(f"Labels, scores and model are in {outcome.folder}", highlight=False, soft_wrap=True)


@main.command("list")
@click.argument("kind", required=False, metavar="[KIND]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_components(kind: str | None, as_json: bool) -> None:
    """What is installed: encoders, clusterers, evaluators, data sets, third parties' included.

    KIND is encoder, clusterer, evaluator or dataset.
    """
    from .core.errors import unknown
    from .core.registry import installed

    if kind is not None:
        singular = kind.removesuffix("s")
        if singular not in KINDS:
            raise unknown("kind of component", kind, KINDS)
        kind = singular
    registry = installed()
    if as_json:
        click.echo(json.dumps(_as_json(registry, kind), indent=2))
        return
    _show_components(registry, kind)


def _as_json(registry: Registry, kind: str | None) -> dict[str, Any]:
    return {
        "components": [
            {
                "kind": e.kind,
                "name": e.component.name,
                "plugin": e.plugin,
                "distribution": e.distribution,
                "version": e.version,
                "summary": e.component.summary,
                "paper": e.component.paper,
                "supervised": e.component.supervised,
            }
            for e in registry.entries(kind)
        ],
        "failures": [vars(f) for f in registry.failures],
    }


def _show_components(registry: Registry, kind: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(box=None, header_style="bold")
    for column in ("kind", "name", "plugin", "version"):
        table.add_column(column, no_wrap=True)
    table.add_column("summary")
    for e in registry.entries(kind):
        summary = e.component.summary + (" (learns from labels)" if e.component.supervised else "")
        plugin = e.plugin if e.plugin == e.distribution else f"{e.plugin} ({e.distribution})"
        table.add_row(e.kind, e.component.name, plugin, e.version, summary)
    console.print(table, highlight=False, markup=False)
    for f in registry.failures:
        console.print(
            f"broken: plugin '{f.plugin}' ({f.distribution}): {f.reason}",
            markup=False,
            soft_wrap=True,
        )


@main.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Where a name stands for several kinds.")
def info(name: str, kind: str | None) -> None:
    """A component's settings, with type, default and help, its presets and its paper."""
    from .core.errors import unknown
    from .core.registry import installed

    registry = installed()
    entries = [e for e in registry.entries(kind) if e.component.name == name]
    if not entries:
        raise unknown(kind or "component", name, {e.component.name for e in registry.entries(kind)})
    for found in sorted({e.kind for e in entries}, key=KINDS.index):
        _show_settings(registry, found, name)


def _show_settings(registry: Registry, kind: str, name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from .core import config as configs

    entry = registry.find(kind, name)
    cls = registry.load(kind, name)
    part = {"encoder": "encoder", "clusterer": "clusterer", "dataset": "data"}.get(kind, name)
    click.echo(f"{name}: {kind} of plugin {entry.plugin} ({entry.distribution} {entry.version})")
    click.echo(entry.component.summary)
    if entry.component.paper:
        click.echo(f"Paper: {entry.component.paper}")
    if entry.component.supervised:
        click.echo("It learns from labels.")
    settings = configs.describe(cls.Config)
    if not settings:
        click.echo("It has no settings.")
        return
    table = Table(box=None, header_style="bold")
    for column in (f"setting (-s {part}.KEY=VALUE)", "type", "default", "help"):
        table.add_column(column, overflow="fold")
    for s in settings:
        default = ",".join(map(str, s.default)) if isinstance(s.default, tuple) else str(s.default)
        table.add_row(s.name, s.type, default if s.default is not None else "none", s.help)
    Console(width=None if sys.stdout.isatty() else 120).print(table, highlight=False, markup=False)
    for preset, values in configs.presets(cls.Config).items():
        shown = ", ".join(f"{k}={v}" for k, v in values.items()) or "the defaults"
        click.echo(f"preset {preset} (-s {part}.preset={preset}): {shown}")


if __name__ == "__main__":
    main()
