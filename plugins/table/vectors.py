"""A column of lists as samples: embeddings that stand in a table beside what they are of."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Data, InvalidData, InvalidSetting, Preparation, Truth, kept_type, tensor_over
from ...core.words import counted
from . import column
from .sheet import Sheet

VECTORS = "vectors"  # in Preparation.extra, the column's name
SHOWN = 8  # columns in a line


def vector_column(sheet: Sheet, chosen: Sequence[str]) -> str | None:
    """The column of lists that is to be clustered by, None where the others are.

    chosen: the columns that the user names. Raises InvalidSetting where it is not clear which.
    """
    there = () if sheet.source is None else sheet.source.vectors
    named = [name for name in chosen if name in there]
    if named and len(chosen) > 1:
        raise InvalidSetting(f"data.columns names '{named[0]}', whose cells are lists; name it alone.")
    if named or not there or chosen:
        return named[0] if named else None
    if len(there) > 1:
        raise InvalidSetting(
            f"'{sheet.path}' has {len(there)} columns of lists, {', '.join(there)}; say which holds the "
            "samples with -s data.columns=NAME."
        )
    return there[0]


def read_vectors(sheet: Sheet, name: str, id_: str | None, truth: Truth | None, labels: str | None) -> Data:
    """The lists of a column as rows (N, D), named by ``id_`` or the first column that names them."""
    assert sheet.source is not None
    matrix = sheet.source.matrix(name)
    if not matrix.size:
        raise InvalidData(f"'{sheet.path}': column '{name}' has no numbers.")
    files = None if id_ is None else sheet.source.texts(sheet.header.index(id_))
    if id_ is None:
        id_, files = _naming(sheet, labels)
    others = [other for other in (*sheet.header, *sheet.source.vectors) if other not in (name, id_, labels)]
    said = [f"samples: the lists of {name}"]
    if files is not None:
        said.append(f"the rows are named by: {id_}")
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        said.append(f"left out: {', '.join(others[:SHOWN])}{more} (beside lists)")
    x = tensor_over(matrix.astype(kept_type(matrix), copy=False))
    return Data(
        x,
        f"{sheet.path.name}, {counted(len(matrix), 'list')} of {counted(matrix.shape[1], 'number')}",
        files=files,
        key=id_ or "file",
        prepared=Preparation(
            (matrix.shape[1],), "uint8" if matrix.dtype == "uint8" else "float32", extra={VECTORS: name}
        ),
        said=said,
        revealed=truth,
    )


def _naming(sheet: Sheet, labels: str | None) -> tuple[str | None, list[str] | None]:
    """The first column that is called an id or holds a different text in each row."""
    assert sheet.source is not None
    called = column.named_ids(sheet, range(len(sheet.header)))
    for i in (*called, *(i for i in range(len(sheet.header)) if i not in called)):
        if sheet.header[i] and sheet.header[i] != labels and (i in called or sheet.source.numbers(i) is None):
            texts = sheet.source.texts(i)
            if all(texts) and len({*texts}) == len(texts):
                return sheet.header[i], texts
    return None, None
