"""The first-party plugins: one package each, found through the same entry points as anyone's."""
