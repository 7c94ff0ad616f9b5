"""``deepclust compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...core.run.options import COMMON, asked, storage_of, with_options


@click.command()
@click.option("--encoder", metavar="A,B", help="One or several.  [default: sdae]")
@click.option("--clusterer", metavar="C,D", help="One or several.  [default: kmeans,dec]")
@click.option("--seeds", metavar="N|LIST", help="How many, or which: 0,3,7.  [default: 5]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="The same command goes on there.  [default: runs/DATA-compare]")  # fmt: skip
@with_options(COMMON)
def compare(
    assignments: tuple[str, ...], config: Path | None, data_root: Path, download: bool, cache: Path | None,
    out: Path | None, overwrite: bool, snapshot_seconds: float, quiet: bool, labels: str | None,
    items: str | None, image_size: str | None, evaluators: tuple[str, ...], recipe: str | None,
    **options: Any,
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
    from ...core.errors import TrainingFailed
    from ...core.words import counted
    from . import comparison

    options["evaluators"] = evaluators or None
    tables, settings = asked(config, assignments, labels, image_size, items, recipe, options)
    overrides = {**options, "settings": settings}
    folder, table = comparison.compare(
        comparison.comparison_from(tables, overrides),
        storage_of(data_root, download, cache, quiet),
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
