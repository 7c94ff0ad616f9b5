"""Pairs of encoder and clusterer over seeds, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def deepclust_add_commands(cli: click.Group) -> None:
    from .command import compare

    cli.add_command(compare)
