"""Baselines: other methods that say which training examples made the model say this, to compare datamodels with.

Each returns float32[n, examples]: by how much an example raises the output of a target, up to a factor. So larger is
more helpful, as for weights.
"""
