"""Every question the core asks a plugin. A plugin is a module; it answers with functions of these names.

A whole third-party plugin::

    from deepclust.core import Component, hookimpl

    @hookimpl
    def deepclust_encoders():
        yield Component("mine", "deepclust_mine.model:Mine", "what it does, in one line")

with, in its ``pyproject.toml``::

    [project.entry-points.deepclust]
    mine = "deepclust_mine"
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from .component import Component, Recipe

if TYPE_CHECKING:
    import click

    from ..engine.trainer import Trainer

PROJECT = "deepclust"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def deepclust_encoders() -> Iterable[Component]:
    """Offer encoders: ``yield Component("cae", "package.module:CAE", "convolutional autoencoder")``."""
    return ()


@hookspec
def deepclust_clusterers() -> Iterable[Component]:
    """Offer clusterers: ``yield Component("dec", "package.module:DEC", "deep embedded clustering")``."""
    return ()


@hookspec
def deepclust_evaluators() -> Iterable[Component]:
    """Offer evaluators: ``yield Component("svm", "package.module:SVM", "an SVM on the codes")``."""
    return ()


@hookspec
def deepclust_datasets() -> Iterable[Component]:
    """Offer data sets: ``yield Component("digits", "package.module:Digits", "bundled digits")``."""
    return ()


@hookspec
def deepclust_counters() -> Iterable[Component]:
    """Offer ways to find the number of clusters: ``yield Component("gap", "package.module:Gap", "...")``."""
    return ()


@hookspec
def deepclust_recipes() -> Iterable[Recipe]:
    """Offer runs by name: ``yield Recipe("my-photos", Path(__file__).parent / "my-photos.toml")``."""
    return ()


@hookspec
def deepclust_extend_trainer(trainer: Trainer) -> None:
    """Add extensions to any training: ``trainer.extend(MyLogger(), trigger=(1, "epoch"))``.

    Their names get the plugin's before them. An extension may end the training after the step in hand:
    ``trainer.stop("60 seconds are over")``.
    """


@hookspec
def deepclust_add_commands(cli: click.Group) -> None:
    """Add commands to the command line: ``cli.add_command(my_command)``."""
