"""Samples: what they are, how they are prepared, on which scale networks see them."""
