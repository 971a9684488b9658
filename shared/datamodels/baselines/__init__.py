"""Baselines: other methods of training-data attribution, to compare datamodels with.

Each returns float32[n, examples]: by how much an example raises the output of a target, up to a factor, as weights do.
So larger is more helpful if higher outputs are better.
"""
