import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from datamodels import errors
from datamodels.rpc import status


class Failed(grpc.RpcError, grpc.Call):
    """A call that ended with a status."""

    def __init__(self, code, details, trailers=()):
        self._code, self._details, self._trailers = code, details, trailers

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailers

    def initial_metadata(self):
        return ()

    def is_active(self):
        return False

    def time_remaining(self):
        return None

    def cancel(self):
        return False

    def add_callback(self, callback):
        return False


def failed(code, details, *reasons, domain=status.DOMAIN):
    infos = []
    for reason in reasons:
        infos.append(any_pb2.Any())
        infos[-1].Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    rich = status_pb2.Status(code=code.value[0], message=details, details=infos)
    return Failed(code, details, (("grpc-status-details-bin", rich.SerializeToString()),))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_becomes_an_error_that_names_the_address(code):
    error = status.to_error(Failed(code, "why"), "host:1")
    assert type(error) is status.BY_CODE[code]
    assert str(error) == f"host:1: why ({code.name})"


def test_a_status_that_names_a_class_becomes_an_error_of_it():
    error = status.to_error(failed(grpc.StatusCode.NOT_FOUND, "run 'x'", "RunNotFoundError"), "host:1")
    assert type(error) is errors.RunNotFoundError
    assert str(error) == "run 'x'"


@pytest.mark.parametrize("reason", ["ExitCode", "Sequence", "enum", "__name__", "NoSuchError", ""])
def test_a_status_that_names_no_error_class_is_translated_by_its_code(reason):
    assert type(status.to_error(failed(grpc.StatusCode.INTERNAL, "x", reason), "a")) is errors.DatamodelsError


def test_a_status_of_another_domain_is_translated_by_its_code():
    call = failed(grpc.StatusCode.NOT_FOUND, "x", "MaskError", domain="elsewhere")
    assert type(status.to_error(call, "a")) is errors.NotFoundError


def test_details_that_contradict_the_status_are_ignored():
    call = failed(grpc.StatusCode.NOT_FOUND, "x", "MaskError")
    call._code = grpc.StatusCode.UNAVAILABLE
    assert type(status.to_error(call, "a")) is errors.UnavailableError


def test_a_message_is_cut_between_characters():
    cut = status.to_status(errors.InputError("€" * 1000)).details
    assert cut == "€" * 499 + "..."
    assert status.to_status(errors.InputError("€" * 500)).details == "€" * 500


def test_a_message_that_is_not_valid_text_is_sent():
    assert status.to_status(errors.InputError("file \udcff")).details == "file ?"
