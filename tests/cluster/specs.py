"""The runs that the tests submit, each an example with other numbers."""

import yaml

from datamodels.run import examples, specs

LINEAR = {
    "dataset": {"load": "datamodels.testing.linear:load"},
    "trainer": {"class": "datamodels.testing.linear:Linear"},
}
"""A trainer that takes no time."""


def sleeping(folder, name, models=6000):
    """(path, spec) of a run whose models take 50 ms each, and no CPU: a minute or two with four trainers."""
    trainer = LINEAR["trainer"] | {"options": {"pause": 0.05}}
    fields = LINEAR | {"trainer": trainer, "m": models, "chunk": 300, "sub_chunk": 50}
    return written(folder, "digits", name=name, **fields, evaluate={"subsets": 20, "models": 10})


def written(folder, base, **fields):
    """(path of a spec, the spec)"""
    document = yaml.safe_load(examples.text(base)) | fields
    path = folder / f"{document['name']}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, specs.load(path)
