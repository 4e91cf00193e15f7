"""Overrides of the plain layers that compute the same numbers in less time.

- ``layers``: the layers, each in a workspace of its own;
- ``im2col``: convolutions as matrix products;
- ``parallel``: batches on several threads;
- ``workspace``: arrays that are allocated once.
"""
