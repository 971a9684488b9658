"""Properties of every call of every service, on real sockets.

The calls come from the generated descriptors, so a new call fails here until GOOD and BAD have an entry for it.
"""

import contextlib

import grpc
import numpy as np
import pytest
from datamodels.services.aggregator.service import service as aggregator
from datamodels.services.fitter.service import service as fitter
from datamodels.services.query.service import service as query
from datamodels.services.sampler.service import service as sampler
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from datamodels import errors
from datamodels.aggregate.committer import Committer
from datamodels.fit.job.fitter import Fitter
from datamodels.fit.job.progress import FitState
from datamodels.query.weights import WeightStore
from datamodels.rpc import auth, codec, run_codec, status
from datamodels.rpc.client import connect
from datamodels.rpc.serve import Server
from datamodels.run import designs, runs
from datamodels.settings import AggregatorSettings, ClientSettings, FitterSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import committed
from tests.helpers.calls import METHODS, call, request_of
from tests.helpers.certificates import ISSUER, SUBJECT, Authority, Issuer, write
from tests.helpers.waiting import LIMIT

RUN = committed.make_run("mine", targets="both", fit={"estimator": "difference"}, evaluate={"subsets": 8, "models": 2})
NAME = RUN.name
DESIGN = run_codec.to_design(RUN.design)
MASKS = codec.to_tensor(designs.subsets(RUN.design, 0, 1))
ONLY = {"run": NAME}
HEADER = {"header": {"run": NAME, "first": 0, "last": 10}}

GOOD = {
    "GetSubsets": {"design": DESIGN, "first": 0, "last": 4},
    "DescribeDesign": {"design": DESIGN},
    "CreateRun": {"record": run_codec.to_run_record(RUN)},
    "GetRunRecord": ONLY,
    "PutOutputs": HEADER,
    "GetProgress": ONLY,
    "WatchRun": ONLY,
    "PublishManifest": ONLY,
    "Fit": ONLY,
    "WatchFit": ONLY,
    "GetRun": ONLY,
    "ListRuns": {},
    "ListTargets": ONLY,
    "GetWeights": ONLY,
    "Predict": ONLY | {"masks": MASKS},
    "TopInfluences": ONLY,
    "Support": ONLY,
    "Counterfactual": ONLY | {"remove": codec.to_tensor(np.int32([1]))},
    "Similar": ONLY | {"target": 1},
    "Leakage": ONLY,
    "Evaluate": ONLY,
    "Clusters": ONLY | {"columns": True, "k": 2},
    "Components": ONLY | {"k": 2},
    "Conflicts": ONLY,
    "ListObjects": ONLY | {"prefix": f"fit/{NAME}/"},
    "ReadObject": ONLY | {"key": f"fit/{NAME}/000000.json"},
}
"""A request that is answered, for each call."""

OUTSIDE = codec.to_tensor(np.int32([RUN.n]))
UNKNOWN = {"run": "nothing-0123456789ab"}
BAD = {
    "GetSubsets": ({"design": DESIGN, "first": 3, "last": 3}, errors.InputError),
    "DescribeDesign": ({}, errors.InputError),
    "CreateRun": ({"record": {"run": NAME, "spec_json": "{}"}}, errors.SpecError),
    "GetRunRecord": (UNKNOWN, errors.RunNotFoundError),
    "PutOutputs": ({"rows": {}}, errors.InputError),
    "GetProgress": (UNKNOWN, errors.RunNotFoundError),
    "WatchRun": (UNKNOWN, errors.RunNotFoundError),
    "PublishManifest": (UNKNOWN, errors.RunNotFoundError),
    "Fit": (ONLY | {"settings": '{"lambdas": 0}'}, errors.SpecError),
    "WatchFit": (ONLY | {"digest": "0" * 16}, errors.NotReadyError),
    "GetRun": (UNKNOWN, errors.RunNotFoundError),
    "ListRuns": ({"page_token": "x"}, errors.PageTokenError),
    "ListTargets": (ONLY | {"page_size": -1}, errors.InputError),
    "GetWeights": (ONLY | {"targets": OUTSIDE}, errors.TargetRangeError),
    "Predict": (ONLY | {"masks": codec.to_tensor(np.zeros((1, 9), np.uint8))}, errors.MaskError),
    "TopInfluences": (ONLY | {"target": RUN.n}, errors.TargetRangeError),
    "Support": (ONLY | {"limit": committed.D + 1}, errors.InputError),
    "Counterfactual": (ONLY, errors.InputError),
    "Similar": (ONLY | {"column": committed.D}, errors.MaskError),
    "Leakage": (ONLY | {"k": 1001}, errors.InputError),
    "Evaluate": (UNKNOWN, errors.RunNotFoundError),
    "Clusters": (ONLY | {"k": 1}, errors.InputError),
    "Components": (ONLY | {"extremes": 1001}, errors.InputError),
    "Conflicts": (ONLY | {"groups": "x"}, errors.InputError),
    "ListObjects": (ONLY | {"prefix": "fit/"}, errors.InputError),
    "ReadObject": (ONLY | {"key": "fit/another-0123456789ab/000000.json"}, errors.InputError),
}
"""A request that is refused, and with which error, for each call."""

TOKENS = {"AggregatorService", "FitterService"}
"""Services that require a token of the run: those that write."""

every_call = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


class Places:
    """The four services, each on its own server. Their common store has the run, its models' outputs, and a fit."""

    def __init__(self, folder):
        self.store = LocalStore(folder / "store")
        runs.create(self.store, RUN)
        committed.commit(self.store, RUN)
        self._scratch = str(folder / "scratch")
        first = self._fitter()
        first.fit(NAME)
        (*_, last) = first.watch(NAME)
        first.close()
        assert last.state is FitState.DONE, last.error

    def _fitter(self):
        return Fitter(self.store, FitterSettings(scratch=self._scratch, device="cpu", threads=1))

    @contextlib.contextmanager
    def served(self, guard=None, **settings):
        """Start the servers and yield their addresses by the full names of services."""
        committer = Committer(self.store, AggregatorSettings(publish_interval=0.05))
        committer.start()
        services = sampler(), aggregator(committer), fitter(self._fitter()), query(WeightStore(self.store))
        with contextlib.ExitStack() as stack:
            yield {
                s.descriptor.full_name: stack.enter_context(Server(ServeSettings(**settings), [s], guard=guard)).address
                for s in services
            }


@contextlib.contextmanager
def opened(served):
    with contextlib.ExitStack() as stack:
        settings = ClientSettings(attempts=1)
        addresses = stack.enter_context(served)
        channels = {name: stack.enter_context(connect(address, settings)) for name, address in addresses.items()}
        yield lambda method: channels[method.containing_service.full_name]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return Places(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="module")
def channel_to(places):
    """channel_to(method) returns a channel to the service of the method."""
    with opened(places.served()) as channels:
        yield channels


@pytest.fixture(scope="module")
def hurried(places):
    """Like `channel_to`, but the servers allow a call no time at all."""
    with opened(places.served(max_deadline=0.0)) as channels:
        yield channels


@pytest.fixture(scope="module")
def guarded(places, tmp_path_factory):
    """guarded(method, **options) returns a channel to a server that requires certificates and perhaps tokens."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, issuer = Authority(folder), Issuer()
    trust = {"ca_file": str(authority.ca_file), "attempts": 1}
    own = authority.issue("client")
    write(folder / "mine", issuer.token(NAME).encode())
    write(folder / "foreign", issuer.token("yours").encode())
    guard = auth.Guard(auth.Issuer(ISSUER, auth.Keys(issuer.keys)), [SUBJECT])

    with contextlib.ExitStack() as stack:
        mutual = authority.issue("server") | {"client_ca_file": str(authority.ca_file)}
        addresses = stack.enter_context(places.served(guard, **mutual))

        def channel(method, token="", certificate=True):
            settings = ClientSettings(**trust, **own if certificate else {}, token_file=token and str(folder / token))
            address = addresses[method.containing_service.full_name]
            return stack.enter_context(connect(address, settings, with_token=bool(token)))

        yield channel


def good(method):
    return request_of(method, **GOOD[method.name])


def test_no_call_is_forgotten():
    names = [method.name for method in METHODS]
    assert sorted(names) == sorted(GOOD) == sorted(BAD)


@every_call
def test_a_good_request_is_answered(channel_to, method):
    assert call(channel_to(method), method, good(method), timeout=LIMIT)


@every_call
def test_its_service_is_healthy(channel_to, method):
    request = health_pb2.HealthCheckRequest(service=method.containing_service.full_name)
    answer = health_pb2_grpc.HealthStub(channel_to(method)).Check(request)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@every_call
def test_a_deadline_of_the_server_ends_it(hurried, method):
    with pytest.raises(errors.DeadlineError, match=r"^the call took longer than the server allows") as caught:
        call(hurried(method), method, good(method))
    assert detail(caught.value).reason == "DeadlineError"


def detail(error):
    """Return the google.rpc.ErrorInfo of the status that an error was sent as."""
    found = rpc_status.from_call(error.__cause__)
    assert (found.code, found.message) == (error.__cause__.code().value[0], str(error))
    (packed,) = found.details
    info = error_details_pb2.ErrorInfo()
    assert packed.Unpack(info) and info.domain == status.DOMAIN
    return info


@every_call
def test_a_bad_request_is_refused_with_an_error_of_this_package(channel_to, method):
    fields, kind = BAD[method.name]
    with pytest.raises(kind) as caught:
        call(channel_to(method), method, request_of(method, **fields), timeout=LIMIT)
    assert type(caught.value) is kind
    assert caught.value.__cause__.code().name == kind.grpc_code
    assert detail(caught.value).reason == kind.__name__


@every_call
def test_bytes_that_are_not_a_request_are_refused(channel_to, method):
    with pytest.raises(errors.InputError, match=f"/{method.name}: the request is not a message of this call") as caught:
        call(channel_to(method), method, b"\xff\xff", timeout=LIMIT)
    assert detail(caught.value).reason == "InputError"


@every_call
def test_an_oversized_message_is_refused(channel_to, method):
    with pytest.raises(errors.InputError, match="larger than max") as caught:
        call(channel_to(method), method, bytes(ServeSettings().max_message_bytes + 1), timeout=LIMIT)
    assert caught.value.__cause__.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@every_call
def test_without_a_certificate_it_is_denied(guarded, method):
    with pytest.raises(errors.UnavailableError):
        call(guarded(method, "mine", certificate=False), method, good(method), timeout=LIMIT)


@every_call
def test_it_is_denied_to_tokens_of_other_runs_if_it_requires_tokens(places, guarded, method):
    """If it requires none, a certificate is enough."""
    kept = sorted(places.store.list(""))
    if method.containing_service.name not in TOKENS:
        assert call(guarded(method), method, good(method), timeout=LIMIT)
        return
    with pytest.raises(errors.TokenError, match="requires a bearer token"):
        call(guarded(method), method, good(method), timeout=LIMIT)
    with pytest.raises(errors.DeniedError, match=f"^the token is for run yours, not for '{NAME}'$") as caught:
        call(guarded(method, "foreign"), method, good(method), timeout=LIMIT)
    assert detail(caught.value).reason == "DeniedError"
    assert sorted(places.store.list("")) == kept
    assert call(guarded(method, "mine"), method, good(method), timeout=LIMIT)
