"""Progress of what is no training: a bar where standard error is a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

from .words import counted

LINE_SECONDS = 30.0  # between two lines where there is no terminal


@contextmanager
def progress(
    what: str, total: int, unit: str, *, quiet: bool = False, least_seconds: float = 0.0
) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more are done.

    what, unit: such as ``"decoding"`` and ``"images"``. least_seconds: how long it must have taken for
    a last line that says so. A KeyboardInterrupt that says nothing yet
    says from here on where it happened.
    """
    done, start, printed = 0, time.monotonic(), time.monotonic()
    bar = _bar(what, total, unit) if not quiet and sys.stderr.isatty() else None

    def advance(count: int = 1) -> None:
        nonlocal done, printed
        done += count
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done)
        elif not quiet and time.monotonic() - printed > LINE_SECONDS:
            printed = time.monotonic()
            print(f"  {what}: {done:,} of {total:,} {unit}, {printed - start:.0f} s", file=sys.stderr)

    try:
        if bar is not None:
            bar.start()
        yield advance
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or f"{what}, at {done:,} of {total:,} {unit}") from None
    finally:
        if bar is not None:
            bar.stop()
    seconds = time.monotonic() - start
    if not quiet and seconds >= least_seconds:
        print(f"  {what}: {counted(done, unit.removesuffix('s'), ',')}, {seconds:.1f} s", file=sys.stderr)


@contextmanager
def phase(what: str) -> Iterator[None]:
    """Names what is being done, for a KeyboardInterrupt that does not say it itself."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or what) from None


def tell(
    remarks: Iterable[str], reasons: Iterable[str] = (), *, verdict: str = "", quiet: bool = False
) -> None:
    """Print what must not be missed; the reasons for which a result is not healthy last and in red.

    verdict: a line after them. On standard output; on standard error where that is to stay quiet.
    """
    from rich.console import Console

    console = Console(stderr=quiet)
    for text in remarks:
        console.print(f"Note: {text}", highlight=False, markup=False, soft_wrap=True)
    ill = [f"Unhealthy result: {text}" for text in reasons]
    for line in [*ill, verdict] if verdict else ill:
        console.print(line, style="bold red", highlight=False, markup=False, soft_wrap=True)


def flexible_bar() -> BarColumn:
    """A bar of up to 40 characters, which gives way where the line has too few."""
    from rich.progress import BarColumn
    from rich.table import Column

    return BarColumn(bar_width=None, table_column=Column(max_width=40))


def time_left() -> TimeRemainingColumn:
    """The time that is left, which keeps its place where the line is short."""
    from rich.progress import TimeRemainingColumn
    from rich.table import Column

    return TimeRemainingColumn(table_column=Column(no_wrap=True))


def _bar(what: str, total: int, unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    bar = Progress(
        TextColumn("{task.description}"),
        flexible_bar(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn(unit),
        time_left(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=4,
    )
    bar.add_task(what, total=total)
    return bar
