"""Baselines: other methods of training-data attribution, to compare datamodels with.

Each returns float32[n, examples]: by how much an example raises the output of a target, up to a factor. So larger is
more helpful, as for weights.
"""
