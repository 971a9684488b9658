"""Datamodels: which training examples made the model say this?

The road is sample -> train -> aggregate -> fit -> query; each stage has a module here of that name.
"""
