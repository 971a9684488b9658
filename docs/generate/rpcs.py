"""Render the page of RPCs: services, methods and messages, with the comments of the protos."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet

from docs.generate.markdown import code, link, table
from docs.generate.source import one_line

HEAD = """\
# RPCs

The services speak gRPC, in the package `datamodels.v1`. A call that fails ends with one of the [gRPC
codes](errors.md#errors). Every service answers `grpc.health.v1.Health`, too.

"""
MESSAGE, ENUM, SERVICE = 4, 5, 6
"""Numbers of the fields message_type, enum_type and service in FileDescriptorProto."""
FIELD, NESTED, NESTED_ENUM, METHOD, VALUE = 2, 3, 4, 2, 2
"""Numbers of the fields of DescriptorProto, ServiceDescriptorProto and EnumDescriptorProto."""
Path_ = tuple[int, ...]


def page(folder: Path) -> str:
    """`folder` has the protos. Raises subprocess.CalledProcessError if they do not compile."""
    services, messages = [], []
    for file in _compiled(folder).file:
        said = {tuple(place.path): one_line(place.leading_comments) for place in file.source_code_info.location}
        for i, service in enumerate(file.service):
            rows = (
                (
                    code(method.name),
                    _one_or_many("request", method.input_type, method.client_streaming),
                    _one_or_many("response", method.output_type, method.server_streaming),
                    said.get((SERVICE, i, METHOD, k), ""),
                )
                for k, method in enumerate(service.method)
            )
            head = f"## {service.name}\n\n{said.get((SERVICE, i), '')}\n\n"
            services.append(head + table(("method", "request", "response", "meaning"), rows))
        for i, message in enumerate(file.message_type):
            messages += _message(message, message.name, (MESSAGE, i), said)
    return HEAD + "".join(services) + "## Messages\n\n" + "".join(messages)


def _compiled(folder: Path) -> FileDescriptorSet:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "descriptors"
        protos = sorted(map(str, folder.rglob("*.proto")))
        options = [f"-I{folder}", "--include_source_info", f"--descriptor_set_out={out}"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *protos], check=True)
        return FileDescriptorSet.FromString(out.read_bytes())


def _message(message: DescriptorProto, title: str, place: Path_, said: dict[Path_, str]) -> Iterator[str]:
    head = f"### {title}\n\n" + (f"{said[place]}\n\n" if said.get(place) else "")
    rows = [
        (code(field.name), _kind(field), _choice(message, field) + said.get((*place, FIELD, i), ""))
        for i, field in enumerate(message.field)
    ]
    yield head + table(("field", "type", "meaning"), rows)
    for i, nested in enumerate(message.nested_type):
        yield from _message(nested, f"{title}.{nested.name}", (*place, NESTED, i), said)
    for i, enum in enumerate(message.enum_type):
        yield _enum(enum, f"{title}.{enum.name}", (*place, NESTED_ENUM, i), said)


def _enum(enum: EnumDescriptorProto, title: str, place: Path_, said: dict[Path_, str]) -> str:
    rows = (
        (code(value.name), str(value.number), said.get((*place, VALUE, i), "")) for i, value in enumerate(enum.value)
    )
    return f"### {title}\n\n" + table(("value", "number", "meaning"), rows)


def _kind(field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    name = _linked(field.type_name) if field.type_name else kind
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return ("repeated " if repeated else "optional " if field.proto3_optional else "") + name


def _choice(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    return f"One of {code(message.oneof_decl[field.oneof_index].name)}. "


def _linked(full_name: str, text: str = "") -> str:
    return link(full_name.removeprefix(".datamodels.v1."), text)


def _one_or_many(word: str, full_name: str, streams: bool) -> str:
    return f"stream of {_linked(full_name, word + 's')}" if streams else _linked(full_name, word)
