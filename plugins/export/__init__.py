"""A trained model as a file that runs without deepclust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def deepclust_add_commands(cli: click.Group) -> None:
    from .command import export

    cli.add_command(export)
