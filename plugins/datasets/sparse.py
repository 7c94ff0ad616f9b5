"""SciPy's sparse matrices in a .npz, made dense where they fit into memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from ...core import InvalidData

LARGEST = 2 * 2**30  # bytes of the dense matrix


def is_sparse(names: Collection[str]) -> bool:
    """Whether an archive's arrays are those that ``scipy.sparse.save_npz`` writes, in any format."""
    return {"format", "shape", "data"} <= {*names}


def read_sparse(path: Path) -> tuple[np.ndarray, None, str]:
    """The dense matrix (N, D), uint8 as it is and others float32, without labels, and words that say so.

    Raises InvalidData where it takes more than 2 GiB or is no matrix, ValueError where it is broken.
    """
    from scipy import sparse

    try:
        matrix = sparse.load_npz(path)
        if len(matrix.shape) != 2:
            raise InvalidData(f"'{path}' is a sparse array of shape {matrix.shape}; (N, D) rows are needed.")
        if hasattr(matrix, "check_format"):  # wrong indices would be written to anywhere in memory
            matrix.check_format(full_check=True)
    except (KeyError, IndexError, TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"it is no sparse matrix of SciPy's: {error}") from error
    if matrix.dtype.kind not in "biuf":
        raise InvalidData(f"'{path}' holds values of type {matrix.dtype}; numbers are needed.")
    dtype = np.dtype(np.uint8 if matrix.dtype == np.uint8 else np.float32)
    n, dim = matrix.shape
    size = n * dim * dtype.itemsize
    if size > LARGEST:
        raise InvalidData(
            f"'{path}' is a sparse matrix of {n:,} rows of {dim:,}, which takes {size / 2**30:,.1f} GiB when "
            f"dense, and at most {LARGEST / 2**30:g} are read; reduce its columns first, for example with "
            "scikit-learn's TruncatedSVD, and save the result with numpy.save."
        )
    share = matrix.nnz / max(1, n * dim)
    return matrix.astype(dtype).toarray(), None, f"sparse with {share:.1%} stored, made dense, "
