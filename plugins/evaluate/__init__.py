"""More scores of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def deepclust_add_commands(cli: click.Group) -> None:
    from .command import evaluate

    cli.add_command(evaluate)
