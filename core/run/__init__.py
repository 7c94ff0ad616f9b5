"""A run: from a request to a folder with labels, scores, a model."""
