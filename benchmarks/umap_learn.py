"""umap-learn's part of umap_peer.py, run by a Python of its own: python umap_learn.py IN.npz OUT.npz SEED"""

import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")
import umap  # noqa: E402

inputs, outputs, seed = sys.argv[1:]
with np.load(inputs) as data:
    seen, new = data["seen"], data["new"]
start = time.perf_counter()
reducer = umap.UMAP(n_components=10, n_neighbors=15, min_dist=0.0, random_state=int(seed))
codes = reducer.fit_transform(seen)
middle = time.perf_counter()
placed = reducer.transform(new)
np.savez(
    outputs, seen=codes, new=placed, seconds=[middle - start, time.perf_counter() - middle],
    version=umap.__version__,
)  # fmt: skip
