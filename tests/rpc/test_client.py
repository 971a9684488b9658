from concurrent import futures

import grpc
import pytest

from datamodels.errors import ConfigError, DeadlineError, MaskError, StoreFullError, UnavailableError
from datamodels.rpc import client
from datamodels.rpc.client import NOT_RETRIED, is_loopback, service_config
from datamodels.settings import ClientSettings
from datamodels.v1 import aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2
from tests.torture.faults import wire

NOWHERE = "127.0.0.1:1"


def test_a_unary_call_gets_the_default_deadline(serve, channels, stub_of):
    stub = stub_of(channels(serve().address, deadline=3_000.0))
    # gRPC rounds the transmitted deadline up, by at most 1%.
    assert 2_000 < float(stub.Unary("remaining")) < 3_100
    assert 2_000 < float(stub.Collect(iter(["remaining"]))) < 3_100
    assert 500 < float(stub.Unary("remaining", timeout=1_000)) < 1_100


@pytest.mark.parametrize("shape", ["Many", "Chat"])
def test_a_stream_of_responses_gets_no_default_deadline(serve, channels, stub_of, shape):
    stub = stub_of(channels(serve(max_deadline=50_000.0).address, deadline=3_000.0))
    assert float(next(stub.call(shape, ["remaining"]))) > 40_000
    assert float(next(stub.call(shape, ["remaining"], timeout=1_000))) < 1_100


@pytest.mark.parametrize("shape", ["Unary", "Many", "Collect", "Chat"])
def test_a_call_past_its_deadline(stub, shape):
    with pytest.raises(DeadlineError, match="DEADLINE_EXCEEDED"):
        list(stub.call(shape, ["watch"], timeout=0.1))


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "all_proxy"])
def test_calls_on_this_machine_pass_no_proxy(serve, channels, stub_of, monkeypatch, variable):
    """Behind the proxy of a company, these variables are set, and the proxy cannot reach this machine."""
    monkeypatch.setenv(variable, f"http://{NOWHERE}")
    assert stub_of(channels(serve().address, attempts=1)).Unary("say 1") == "1"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:50", True),
        ("unix:/tmp/a/grpc", True),
        ("127.8.0.1:50", True),
        ("localhost:50", True),
        ("[::1]:50", True),
        ("0.0.0.0:50", True),
        ("dns:///localhost:50", True),
        ("dns://8.8.8.8/localhost:50", True),
        ("ipv6:[::1]:50", True),
        ("10.0.0.1:50", False),
        ("localhost.example.org:50", False),
        ("dns:///query.runs:50051", False),
        ("query", False),
    ],
)
def test_only_addresses_of_this_machine_count_as_loopback(address, local):
    assert is_loopback(address) == local


@pytest.mark.parametrize("shape", ["Unary", "Many", "Collect", "Chat"])
def test_an_unreachable_server_is_named(channels, stub_of, shape):
    stub = stub_of(channels(NOWHERE, attempts=1))
    with pytest.raises(UnavailableError, match=f"^{NOWHERE}: "):
        list(stub.call(shape, ["say 1"]))


def test_a_future_raises_the_same_errors(stub):
    future = stub.Unary.future("fail MaskError short")
    with pytest.raises(MaskError, match=r"^short$"):
        future.result()
    assert isinstance(future.exception(), MaskError)
    assert stub.Unary.future("say 1").exception() is None


def test_with_call_returns_the_response_and_the_call(stub):
    response, call = stub.Unary.with_call("say 1")
    assert (response, call.code()) == ("1", grpc.StatusCode.OK)


@pytest.mark.parametrize("shape", ["Unary", "Many"])
def test_a_call_to_an_unavailable_server_is_retried(serve, channels, stub_of, echo, shape):
    stub = stub_of(channels(serve().address, attempts=3))
    assert list(stub.call(shape, ["flaky 3"])) == ["3"]


def test_a_connection_that_is_dead_without_having_ended_is_given_up(serve, stub_of, tmp_path, monkeypatch):
    """Without pings, or with gRPC's own limit of a minute for their answers, the call would pass its deadline."""
    monkeypatch.setattr(client, "PING_MS", 300)
    monkeypatch.setattr(client, "PING_TIMEOUT_MS", 300)
    serve(socket=str(tmp_path / "service"))
    between = wire.Wire(str(tmp_path / "service"), str(tmp_path / "between"))
    between.stall_next(after=500)  # of about 600 bytes
    with client.connect(f"unix:{tmp_path / 'between'}", ClientSettings(deadline=50.0)) as channel:
        assert float(stub_of(channel).Unary("remaining")) < 50
    assert between.faults == [wire.STALL]
    between.close()


def test_the_number_of_attempts_is_limited(serve, channels, stub_of, echo):
    stub = stub_of(channels(serve().address, attempts=2))
    with pytest.raises(UnavailableError, match=r"^not yet$"):
        stub.Unary("flaky 3")
    assert echo.calls == 2


def test_other_errors_are_not_retried(serve, channels, stub_of, echo):
    stub = stub_of(channels(serve().address, attempts=5))
    with pytest.raises(StoreFullError):
        stub.Unary("fail StoreFullError no space")
    assert echo.calls == 1


def test_the_calls_that_are_not_retried_exist_and_have_no_policy():
    services = {
        service.full_name: service
        for module in (aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    assert all(method in services[service].methods_by_name for service, method in NOT_RETRIED)
    named, default = service_config(5)["methodConfig"]
    assert {(name["service"], name["method"]) for name in named["name"]} == set(NOT_RETRIED)
    assert "retryPolicy" not in named
    assert default["name"] == [{}]
    assert default["retryPolicy"]["maxAttempts"] == 5


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_call_that_is_not_retried_is_sent_once(channels, raw_channel, code):
    """Other calls are retried, also if a server that stops cancels a call that it has just accepted."""
    asked = []

    class Refuse(grpc.GenericRpcHandler):
        def service(self, details):
            asked.append(details.method.rpartition("/")[2])
            return grpc.stream_unary_rpc_method_handler(lambda requests, context: context.abort(code, "no"))

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Refuse()])
    channel = channels(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", attempts=2)
    server.start()
    try:
        for method in ("PutOutputs", "GetProgress"):
            with pytest.raises(UnavailableError):
                channel.stream_unary(f"/datamodels.v1.AggregatorService/{method}")(iter([b""]))
    finally:
        server.stop(0).wait()
    assert asked == ["PutOutputs", "GetProgress", "GetProgress"]


@pytest.mark.parametrize("attempts", [0, 1])
def test_one_attempt_needs_no_retry_policy(attempts):
    assert all("retryPolicy" not in method for method in service_config(attempts)["methodConfig"])


@pytest.mark.parametrize("shape", ["Collect", "Chat"])
def test_an_error_of_the_callers_own_requests_is_raised_unchanged(stub, shape):
    def requests():
        yield "say 1"
        raise MaskError("row 3 is short")

    with pytest.raises(MaskError, match=r"^row 3 is short$"):
        list(stub.call(shape, requests()))


def test_an_unknown_method(serve, channels):
    with pytest.raises(ConfigError, match="UNIMPLEMENTED"):
        channels(serve().address).unary_unary("/no.Such/Call")(b"")


def test_every_call_with_a_stream_is_among_those_not_retried():
    """gRPC hangs if it retries a stream of responses of a server that died."""
    modules = (aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2)
    methods = [m for module in modules for s in module.DESCRIPTOR.services_by_name.values() for m in s.methods]
    streams = {(m.containing_service.full_name, m.name) for m in methods if m.client_streaming or m.server_streaming}
    assert streams == set(NOT_RETRIED)
