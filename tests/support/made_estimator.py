"""A quick estimator, and the samples of three classes that it clusters."""

import numpy as np
from sklearn.datasets import make_blobs

from deepclust import DeepClustering

X, Y = make_blobs(n_samples=60, n_features=5, centers=3, cluster_std=0.5, random_state=3)
X = X.astype(np.float32)
QUICK = {"encoder_params": {"hidden": (16,), "latent_dim": 2}, "epochs_scale": 0.1, "random_state": 0}


def quick(clusterer="kmeans", n_clusters=3, **parameters) -> DeepClustering:
    return DeepClustering("sdae", clusterer, n_clusters, **{**QUICK, **parameters})
