"""The conformance kit: what a plugin's own tests call to prove that its components keep their promises.

from deepclust.core.testing import check_encoder

def test_mine(tmp_path):
    check_encoder("mine", tmp_path, epochs=1)
"""

from .conformance import check_clusterer, check_dataset, check_encoder, check_evaluator

__all__ = ["check_clusterer", "check_dataset", "check_encoder", "check_evaluator"]
