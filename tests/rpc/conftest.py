"""A service with one call of each shape. The requests are commands."""

import threading
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from datamodels import errors
from datamodels.rpc.client import connect
from datamodels.rpc.serve import Server, Service
from datamodels.settings import ClientSettings, ServeSettings
from tests.helpers.waiting import LIMIT

NAME = "datamodels.test.EchoService"
SERVING = health_pb2.HealthCheckResponse.SERVING
SHAPES = {"Unary": (False, False), "Many": (False, True), "Collect": (True, False), "Chat": (True, True)}


def _descriptor():
    message = ".google.protobuf.StringValue"
    methods = [
        descriptor_pb2.MethodDescriptorProto(
            name=name, input_type=message, output_type=message, client_streaming=many_in, server_streaming=many_out
        )
        for name, (many_in, many_out) in SHAPES.items()
    ]
    package, _, service = NAME.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name="datamodels/test/echo.proto",
        package=package,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
        service=[descriptor_pb2.ServiceDescriptorProto(name=service, method=methods)],
    )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName(NAME)


DESCRIPTOR = _descriptor()


def health_of(channel, service=""):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status


def port_of(address):
    return int(address.rpartition(":")[2])


class Echo:
    """Executes requests, each of which is a command and its argument, and answers with the command's result.

    Calls with a stream of responses answer each line of each request.
    """

    def __init__(self):
        self.entered = threading.Event()  # a call is in `hold` or `watch`
        self.release = threading.Event()  # lets `hold` continue
        self.left = threading.Event()  # a stream of responses was closed
        self.closed = threading.Event()
        self.calls = 0

    def Unary(self, request, context):
        self.calls += 1
        return wrappers_pb2.StringValue(value=self._do(request.value, context))

    def Many(self, request, context):
        self.calls += 1
        try:
            for line in request.value.splitlines():
                yield wrappers_pb2.StringValue(value=self._do(line, context))
        finally:
            self.left.set()

    def Collect(self, requests, context):
        self.calls += 1
        return wrappers_pb2.StringValue(value=" ".join(self._do(r.value, context) for r in requests))

    def Chat(self, requests, context):
        self.calls += 1
        for request in requests:
            yield wrappers_pb2.StringValue(value=self._do(request.value, context))

    def _do(self, line, context):
        command, _, argument = line.partition(" ")
        return getattr(self, f"_{command}")(argument, context)

    def _say(self, text, context):
        return text

    def _fail(self, text, context):
        kind, _, message = text.partition(" ")
        raise getattr(errors, kind)(message)

    def _crash(self, text, context):
        raise ZeroDivisionError(text)

    def _abort(self, text, context):
        context.abort(grpc.StatusCode.ABORTED, text)

    def _big(self, size, context):
        return "x" * int(size)

    def _remaining(self, text, context):
        return str(context.time_remaining())

    def _flaky(self, times, context):
        """Fail until the call of this number."""
        if self.calls < int(times):
            raise errors.UnavailableError("not yet")
        return str(self.calls)

    def _hold(self, text, context):
        self.entered.set()
        if not self.release.wait(LIMIT):
            raise TimeoutError("the test forgot this call")
        return text

    def _watch(self, text, context):
        wake = threading.Event()
        context.watch(wake.set)
        self.entered.set()
        while context.is_active():
            if not wake.wait(LIMIT):
                raise TimeoutError("nothing woke the watch")
        return text

    def _linger(self, seconds, context):
        time.sleep(float(seconds))
        return seconds

    def _wrong(self, text, context):
        return 3

    def service(self, run_of=None):
        return Service(DESCRIPTOR, _add, self, close=self.closed.set, run_of=run_of)


def _add(servicer, server):
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        name: make[shape](
            getattr(servicer, name),
            request_deserializer=wrappers_pb2.StringValue.FromString,
            response_serializer=wrappers_pb2.StringValue.SerializeToString,
        )
        for name, shape in SHAPES.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


class Stub:
    """Calls the service with strings. `call(shape, lines)` yields the responses of a call of any shape."""

    def __init__(self, channel):
        make = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        self._calls = {
            name: make[shape](
                f"/{NAME}/{name}",
                request_serializer=lambda text: wrappers_pb2.StringValue(value=text).SerializeToString(),
                response_deserializer=lambda raw: wrappers_pb2.StringValue.FromString(raw).value,
            )
            for name, shape in SHAPES.items()
        }

    def __getattr__(self, name):
        return self._calls[name]

    def call(self, shape, lines, **options):
        many_in, many_out = SHAPES[shape]
        request = iter(lines) if many_in else "\n".join(lines)
        answer = self._calls[shape](request, **options)
        if many_out:
            yield from answer
        else:
            yield answer


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def serve(echo):
    """serve(**ServeSettings) returns an entered Server of `echo`. All servers are closed when the test ends."""
    servers = []

    def enter(**settings):
        server = Server(ServeSettings(**{"grace": 5.0} | settings), [echo.service()], "echo").__enter__()
        servers.append(server)
        return server

    yield enter
    echo.release.set()
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def channels():
    """channels(address, **ClientSettings) returns a channel, closed when the test ends."""
    opened = []

    def open_channel(address, **settings):
        opened.append(connect(address, ClientSettings(**settings)))
        return opened[-1]

    yield open_channel
    for channel in opened:
        channel.close()


@pytest.fixture
def stub(serve, channels):
    return Stub(channels(serve().address))


@pytest.fixture
def stub_of():
    return Stub


@pytest.fixture
def raw_channel():
    """raw_channel(address) returns a channel without our interceptor, closed when the test ends."""
    opened = []

    def open_channel(address, **options):
        opened.append(grpc.insecure_channel(address, options=list(options.items())))
        return opened[-1]

    yield open_channel
    for channel in opened:
        channel.close()


@pytest.fixture
def count():
    """count(metric, method, **labels) returns a server metric for a method, summed over all other labels."""

    def total(metric, method, **labels):
        wanted = {"grpc_method": method, **labels}
        return sum(
            sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == metric and wanted.items() <= sample.labels.items()
        )

    return total
