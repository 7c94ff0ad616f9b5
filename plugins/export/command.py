"""``deepclust export``."""

from __future__ import annotations

from pathlib import Path

import click

from ...core.run.options import STORAGE, storage_of, with_options


@click.command()
@click.argument("model", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE where it is there.")
@with_options(STORAGE)
def export(
    model: Path, file: Path, overwrite: bool, data_root: Path, download: bool, cache: Path | None, quiet: bool
) -> None:
    """Write the model of a finished run to FILE, checked: .safetensors, .pt2 or .onnx.

    \b
    deepclust export runs/photos photos.onnx

    FILE maps samples x, on the scale that networks see, to labels, soft assignments q and codes z.
    """
    from . import export as exports

    storage = storage_of(data_root, download, cache, quiet)
    checked = exports.export(model, file, storage, overwrite=overwrite)
    if not quiet:
        click.echo(f"{file}: {checked}")
