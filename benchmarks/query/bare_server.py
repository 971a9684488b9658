"""Run a bare gRPC server, with which benchmarks/query/service.py compares the query service.

`Same` answers with the bytes of its request, and `Stream` with messages of the sizes in it. `Tensor` and `Floats`
answer with a float32 vector of the requested length, as a Tensor and as `repeated float`.
"""

from __future__ import annotations

import functools
import json
import sys
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from datamodels.rpc import codec
from datamodels.settings import ServeSettings
from datamodels.v1 import types_pb2

NAME = "baselines.v1.Baselines"
VECTOR = np.random.default_rng(0).normal(size=2_000_000).astype(np.float32)


def _floats():
    field = descriptor_pb2.FieldDescriptorProto(
        name="values",
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
    )
    message = descriptor_pb2.DescriptorProto(name="Floats", field=[field])
    file = descriptor_pb2.FileDescriptorProto(name="floats.proto", syntax="proto3", message_type=[message])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Floats"))


Floats = _floats()

ANSWERS = {
    "Same": lambda request, context: request,
    "Tensor": lambda request, context: codec.to_tensor(VECTOR[: int(request)]).SerializeToString(),
    "Floats": lambda request, context: Floats(values=VECTOR[: int(request)].tolist()).SerializeToString(),
}


@functools.cache
def _messages(sizes: bytes) -> list[bytes]:
    return [VECTOR.tobytes()[:size] for size in json.loads(sizes)]


STREAMS = {"Stream": lambda request, context: iter(_messages(request))}
DECODE = {
    "": lambda answer: None,
    "Tensor": lambda answer: codec.from_tensor(
        types_pb2.Tensor.FromString(answer), "vector", dtypes=("float32",), shape=(None,)
    ),
    "Floats": lambda answer: np.array(Floats.FromString(answer).values, dtype=np.float32),
}
"""Functions by which a client turns an answer into an array."""


def main() -> None:
    settings = ServeSettings.load()
    server = grpc.server(futures.ThreadPoolExecutor(settings.workers))
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in ANSWERS.items()}
    handlers |= {name: grpc.unary_stream_rpc_method_handler(answer) for name, answer in STREAMS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Path(settings.address_file).write_text(json.dumps({"address": f"127.0.0.1:{port}"}))
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main()
