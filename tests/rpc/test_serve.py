import json
import re
import socket
import threading
import urllib.error
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from datamodels.errors import PortInUseError, SettingsError, UnavailableError
from datamodels.rpc.client import connect
from datamodels.rpc.serve import Server
from datamodels.settings import ClientSettings, ServeSettings
from tests.helpers.waiting import LIMIT
from tests.rpc.conftest import SERVING, SHAPES, health_of, port_of

ECHO = "datamodels.test.EchoService"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_of_the_server_and_of_each_service(serve, channels):
    channel = channels(serve().address)
    assert health_of(channel) == health_of(channel, ECHO) == SERVING


def test_health_of_an_unknown_service(serve, raw_channel):
    with pytest.raises(grpc.RpcError) as caught:
        health_of(raw_channel(serve().address), "no.Such")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_can_be_watched_until_it_stops(serve, channels):
    server = serve(grace=0.5)
    watch = health_pb2_grpc.HealthStub(channels(server.address)).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == SERVING
    server.stopping.set()
    stopper = threading.Thread(target=server.wait)
    stopper.start()
    assert next(watch).status == NOT_SERVING
    stopper.join()


def test_pings_that_arrive_in_a_bunch_end_no_connection(serve):
    """As those of a client on a starved machine do."""
    settings, ping, goaway, acknowledged, pings = 4, 6, 7, 1, 20

    def frame(kind, payload=b""):
        return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload

    with socket.create_connection(("127.0.0.1", port_of(serve().address)), timeout=LIMIT) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings) + pings * frame(ping, bytes(8)))
        received, answers = connection.makefile("rb"), 0
        while answers < pings:
            header = received.read(9)
            received.read(int.from_bytes(header[:3], "big"))
            assert len(header) == 9 and header[3] != goaway
            answers += header[3] == ping and header[4] == acknowledged


def reflected(channel):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
    return {service.name for answer in answers for service in answer.list_services_response.service}


def test_reflection_lists_the_services(serve, raw_channel):
    assert {ECHO, "grpc.health.v1.Health"} <= reflected(raw_channel(serve(reflection=True).address))


def test_without_reflection_nothing_is_listed(serve, raw_channel):
    with pytest.raises(grpc.RpcError) as caught:
        reflected(raw_channel(serve(reflection=False).address))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("setting", "variable"), [("port", "DATAMODELS_SERVE_PORT"), ("metrics_port", "DATAMODELS_SERVE_METRICS_PORT")]
)
def test_a_port_in_use_is_named(serve, echo, setting, variable):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"^127.0.0.1:{port} is in use .* {variable} "):
            serve(**{setting: port})
    assert echo.closed.is_set()


def test_a_second_server_does_not_share_the_port(serve):
    with pytest.raises(PortInUseError):
        serve(port=port_of(serve().address))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_of_another_machine_is_named(serve, host):
    with pytest.raises(SettingsError, match=f"^{host}:0: cannot listen there"):
        serve(host=host)


def test_a_server_whose_metrics_port_is_taken_releases_its_own_port(serve):
    first = serve()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(PortInUseError):
        serve(port=port, metrics_port=port_of(first.metrics_address))
    assert port_of(serve(port=port).address) == port


def test_the_address_file_is_complete_once_serving(serve, tmp_path, channels):
    path = tmp_path / "address.json"
    server = serve(address_file=str(path))
    assert json.loads(path.read_text()) == {"address": server.address, "metrics_address": server.metrics_address}
    assert [p.name for p in tmp_path.iterdir()] == ["address.json"]
    assert health_of(channels(server.address)) == SERVING


def test_an_address_file_that_cannot_be_written_is_named(serve, tmp_path):
    path = tmp_path / "missing" / "address.json"
    with pytest.raises(SettingsError, match=f"ADDRESS_FILE={path}: No such file"):
        serve(address_file=str(path))


def scrape(server):
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=LIMIT) as response:
        return response.read().decode()


def test_metrics_have_the_standard_names_and_labels(serve, channels, stub_of):
    server = serve()
    stub_of(channels(server.address)).Unary("say 1")
    lines = scrape(server).splitlines()
    method = f'grpc_method="Unary",grpc_service="{ECHO}",grpc_type="unary"'
    for series in (
        f"grpc_server_started_total{{{method}}}",
        f'grpc_server_handled_total{{grpc_code="OK",{method}}}',
        f"grpc_server_handling_seconds_count{{{method}}}",
    ):
        assert any(line.startswith(series) for line in lines), series


def test_every_status_of_every_method_is_shown_before_any_call(serve):
    """An alert on DATA_LOSS must see the first one. It would not, if the series appeared only with it."""
    shown = scrape(serve())
    for method in SHAPES:
        for code in grpc.StatusCode:
            assert re.search(f'handled_total{{grpc_code="{code.name}",grpc_method="{method}",.*}} \\d', shown), method


def test_callers_cannot_add_series(serve, raw_channel):
    server = serve()
    channel = raw_channel(server.address)

    def call(path):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(path)(b"")

    def series():
        return {line.rpartition(" ")[0] for line in scrape(server).splitlines() if line.startswith("grpc_server")}

    call("/made.Up/First")
    before = series()
    for number in range(50):
        call(f"/made.Up{number}/Call{number}")
    assert series() == before


def test_metrics_stop_with_the_server(serve):
    server = serve()
    server.__exit__(None, None, None)
    with pytest.raises(urllib.error.URLError):
        scrape(server)
    assert not [t for t in threading.enumerate() if t.name == "metrics" and t.is_alive()]


def test_a_running_call_ends_before_the_server_stops(serve, channels, stub_of, echo):
    server = serve(grace=20.0)
    stub = stub_of(channels(server.address))
    answer = stub.Unary.future("hold the line")
    assert echo.entered.wait(LIMIT)
    server.stopping.set()
    stopper = threading.Thread(target=server.wait)
    stopper.start()
    assert stopper.is_alive()
    assert not echo.closed.is_set()
    echo.release.set()
    assert answer.result() == "the line"
    stopper.join(LIMIT)
    assert not stopper.is_alive()


def test_a_call_longer_than_the_grace_is_ended(serve, channels, stub_of, echo):
    server = serve(grace=0.2)
    answer = stub_of(channels(server.address, attempts=1)).Unary.future("hold")
    assert echo.entered.wait(LIMIT)
    server.stopping.set()
    server.wait()
    with pytest.raises(UnavailableError):
        answer.result()


@pytest.mark.parametrize("shape", ["Unary", "Many", "Collect", "Chat"])
def test_a_watch_ends_when_the_server_stops(serve, channels, stub_of, echo, shape):
    server = serve(grace=60.0)
    stub = stub_of(channels(server.address, attempts=1))
    ended = []

    def watch():
        try:
            ended.append(list(stub.call(shape, ["watch"])))
        except UnavailableError as error:
            ended.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert echo.entered.wait(LIMIT)
    server.stopping.set()
    server.wait()
    watcher.join(LIMIT)
    assert [str(e) for e in ended] == ["the server is stopping; call again"]


def test_new_calls_are_refused_after_the_server_stopped(serve, channels, stub_of):
    server = serve()
    stub = stub_of(channels(server.address, attempts=1))
    assert stub.Unary("say 1") == "1"
    server.stopping.set()
    server.wait()
    with pytest.raises(UnavailableError, match=server.address):
        stub.Unary("say 2")


def test_services_are_closed_after_the_last_call(serve, echo, channels, stub_of):
    server = serve(grace=20.0)
    answer = stub_of(channels(server.address)).Unary.future("hold")
    assert echo.entered.wait(LIMIT)
    leaver = threading.Thread(target=server.__exit__, args=(None, None, None))
    leaver.start()
    assert not echo.closed.wait(0.05)
    echo.release.set()
    leaver.join(LIMIT)
    assert echo.closed.is_set()
    assert answer.result() == ""


def test_the_port_is_free_after_the_server_stopped(serve):
    server = serve()
    port = port_of(server.address)
    server.__exit__(None, None, None)
    assert port_of(serve(port=port).address) == port


def test_a_server_without_services_serves_health():
    with Server(ServeSettings()) as server, connect(server.address, ClientSettings()) as channel:
        assert health_of(channel) == SERVING
