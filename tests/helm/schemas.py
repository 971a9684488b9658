"""Strict schemas of Kubernetes. Each is read once."""

import functools

from jsonschema.validators import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")


@functools.cache
def definitions(version):
    name = next(v for v in utils.all_versions() if f"{v}.".startswith(f"{version}."))
    folder = f"kubernetes-json-schema/v{name}-local-strict"
    return folder, Resource.from_contents(utils.schema_contents(f"{folder}/_definitions.json", version)) @ Registry()


@functools.cache
def validator(version, kind, api_version):
    folder, registry = definitions(version)
    group, _, number = api_version.rpartition("/")
    name = f"{kind}-{group.split('.')[0]}-{number}" if group else f"{kind}-{number}"
    schema = utils.schema_contents(f"{folder}/{name.lower()}.json", version)
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ registry)
