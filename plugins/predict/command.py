"""``deepclust predict``."""

from __future__ import annotations

from pathlib import Path

import click

from ...core.run.options import SORTING, STORAGE, storage_of, with_options


@click.command()
@click.argument("model", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The table of labels, as labels.csv of a run.")  # fmt: skip
@click.option("--embedding", type=click.Path(path_type=Path), metavar="FILE", help="The codes, as .npy.")
@with_options(SORTING)
@click.option("-s", "--set", "assignments", multiple=True, metavar="data.KEY=VALUE",
              help="How DATA are read, such as data.id=name.")  # fmt: skip
@click.option(
    "--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]"
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@with_options(STORAGE)
def predict(
    model: Path, data: str, out: Path | None, embedding: Path | None, sort_into: Path | None, copy: bool,
    assignments: tuple[str, ...], device: str, overwrite: bool, data_root: Path, download: bool,
    cache: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Sort new data into the clusters of a finished run.

    \b
    deepclust predict runs/photos more-photos/ -o labels.csv
    deepclust predict runs/photos more-photos/ --sort-into sorted

    RUN is the folder of a run or a .safetensors file of one; DATA is a name, a path or NAME:PATH, as
    --data of run, read with the run's settings. With no file to write, the sizes of the clusters are shown.
    """
    from ...core.contract import config as configs
    from ...core.run import sorting
    from . import prediction

    predicted = prediction.carry_out(
        model, data, storage_of(data_root, download, cache, quiet),
        settings=configs.parse_assignments(assignments), device=device, labels=out, embedding=embedding,
        sorting=sorting.asked_for(sort_into, copy), overwrite=overwrite,
    )  # fmt: skip
    if not quiet:
        prediction.show(predicted, out)
