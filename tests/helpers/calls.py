"""All calls of the services, from the generated descriptors, so that no test can omit one."""

import importlib
import pkgutil

from google.protobuf import message_factory

from datamodels import v1

FILES = [
    importlib.import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR
    for module in pkgutil.iter_modules(v1.__path__)
    if module.name.endswith("_pb2")
]
SERVICES = {service.full_name: service for file in FILES for service in file.services_by_name.values()}
METHODS = [method for service in SERVICES.values() for method in service.methods]


def request_of(method, **fields):
    """Return a request of a call."""
    return message_factory.GetMessageClass(method.input_type)(**fields)


def call(channel, method, request, **options):
    """Make a call of any shape and return its responses. The request is a message, or bytes to send unchanged."""
    shape = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
    answer = getattr(channel, "_".join(shape))(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )(iter([request]) if method.client_streaming else request, **options)
    return list(answer) if method.server_streaming else [answer]
