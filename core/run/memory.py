"""Too little memory, said in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..errors import DeepclustError, TrainingFailed

SHORT = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
)  # what torch says of it
SHOWN = 120  # characters of what was said


@contextmanager
def enough(
    what: str, advice: Callable[[], str], error: type[DeepclustError] = TrainingFailed
) -> Iterator[None]:
    """Raises ``error`` where memory is too little, on the processor or the device, for what is done within.

    advice: what to do, the end of the sentence.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as failure:
        text = " ".join(str(failure).split()) or type(failure).__name__
        short = isinstance(failure, (MemoryError, torch.OutOfMemoryError)) or any(s in text for s in SHORT)
        if not short:
            raise
        said = text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
        raise error(f"{what}: there is too little memory ({said}); {advice()}") from failure
