"""The runs that the tests submit, each the file of a spec in deploy/specs with other numbers."""

from pathlib import Path

import yaml

from datamodels.run import specs

SPECS = Path(__file__).parents[2] / "deploy" / "specs"


def written(folder, base, **fields):
    """(path of a spec, the spec)"""
    document = yaml.safe_load((SPECS / f"{base}.yaml").read_text()) | fields
    path = folder / f"{document['name']}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, specs.load(path)
