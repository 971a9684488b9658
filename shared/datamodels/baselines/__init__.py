"""Other answers to the question which training examples made the model say this, to compare the datamodels with.

Each module has `attribution`, which gives float32[n, examples]: by how much, up to a factor, an example's presence
raises the output of a target. That is the orientation of theta.
"""
