"""How long the parts of a run took, over all the pieces in which it was carried out."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from ..engine.extensions.log import LOG_NAME
from ..files import write_json

SPENT = "seconds.json"  # in the folder of a run that is not finished


class Spent:
    """Seconds by part, of this piece and of those before it.

    A piece that was stopped has written its seconds; of one that was killed what its logs say counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = ""
        self._start = 0.0
        self.seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):  # there is none, or it is broken
            kept = json.loads((folder / SPENT).read_text(encoding="utf-8"))
            self.seconds = {str(part): float(seconds) for part, seconds in dict(kept).items()}

    def begin(self, part: str) -> None:
        """From here on ``part`` is at work."""
        self.end()
        if not (self._folder / part).is_symlink():  # else other runs' time is in the logs
            logged = logged_seconds(self._folder / part)
            self.seconds[part] = max(self.seconds.get(part, 0.0), logged)
        self._part, self._start = part, time.perf_counter()

    def end(self) -> None:
        """Count the part that was at work, and keep it."""
        if not self._part:
            return
        now = time.perf_counter()
        self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._start
        self._part = ""
        with contextlib.suppress(OSError):  # a full disk is said by what needs it
            write_json(self._folder / SPENT, self.seconds)

    def remove(self) -> None:
        """The run is finished."""
        (self._folder / SPENT).unlink(missing_ok=True)


def logged_seconds(folder: Path) -> float:
    """What the logs of the stages below ``folder`` add up to."""
    total = 0.0
    for log in sorted(folder.rglob(LOG_NAME)):
        with contextlib.suppress(ValueError, KeyError):  # a kill cuts lines off
            lines = log.read_text(encoding="utf-8").splitlines()
            total += json.loads(lines[-1])["seconds"] if lines else 0.0
    return total
