"""Read-outs: the ways to get a verdict out of a language model, all behind the one interface of `reading.py`."""
