"""The runs that the tests submit, each an example with other numbers."""

import yaml

from datamodels.run import examples, specs


def written(folder, base, **fields):
    """(path of a spec, the spec)"""
    document = yaml.safe_load(examples.text(base)) | fields
    path = folder / f"{document['name']}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, specs.load(path)
