"""``deepclust evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from ...core.run.options import STORAGE, storage_of, with_options


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--evaluator", "evaluators", multiple=True, metavar="NAME",
              help="May be given several times. +NAME: the run's own as well; it does not mix with NAME.  "
              "[default: the run's own]")  # fmt: skip
@click.option("-s", "--set", "assignments", multiple=True, metavar="PART.KEY=VALUE",
              help="A setting of an evaluator, such as svm.labels=10, over what the run had; "
              "data.path=PATH where the data have moved.")  # fmt: skip
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.  [default: the run's, or auto]")
@with_options(STORAGE)
def evaluate(
    folder: Path, evaluators: tuple[str, ...], assignments: tuple[str, ...], device: str | None,
    data_root: Path, download: bool, cache: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Run evaluators on a finished run: nothing is trained, other scores stay as they are.

    \b
    deepclust evaluate runs/digits --evaluator svm -s svm.heads=svc
    deepclust evaluate runs/digits                          the run's own evaluators again

    The data are loaded as the run loaded them and must be the same. What evaluators give goes to
    scores.json, what they write to the folder RUN; its report is written anew. Exit code 1 where one failed.
    """
    from ...core.contract import config as configs
    from ...core.run.outcome import show_outcome
    from ...core.run.scores import has_failed
    from . import evaluation

    outcome = evaluation.carry_out(
        folder, storage_of(data_root, download, cache, quiet), evaluators,
        settings=configs.parse_assignments(assignments), device=device,
    )  # fmt: skip
    show_outcome(outcome, quiet)
    if any(has_failed(outcome.scores[name]) for name in outcome.evaluated):
        raise click.exceptions.Exit(1)
