"""deepclust as an estimator of scikit-learn."""
