import contextlib
import io
import json
import logging
import sys

import pytest

from datamodels.errors import SettingsError
from datamodels.settings import TelemetrySettings
from datamodels.telemetry import bound, configure_logging, logger


@contextlib.contextmanager
def put_back():
    """Put the configuration of logs back in the end."""
    loggers = [logging.getLogger(name) for name in ("", "datamodels", "urllib3")]
    before, hook = [(each.handlers[:], each.level) for each in loggers], sys.excepthook
    try:
        yield
    finally:
        for each, (handlers, level) in zip(loggers, before, strict=True):
            each.handlers[:] = handlers
            each.setLevel(level)
        sys.excepthook = hook


def logged(script, level="info", format="json"):
    """Return the lines that `script` logs to standard error. Its standard output must be empty."""
    out, err = io.StringIO(), io.StringIO()
    with put_back(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        configure_logging(TelemetrySettings(level=level, format=format), "fitter")
        exec(script, {"bound": bound, "log": logger("datamodels.fit"), "logging": logging})
    assert out.getvalue() == ""
    return err.getvalue().splitlines()


def test_a_line_is_one_json_object_with_the_standard_fields():
    (line,) = logged('log.info("path done", targets=3)')
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"service": "fitter", "level": "info", "event": "path done", "targets": 3}


def test_bound_fields_are_on_every_line_inside():
    inside, outside = logged('with bound(run="digits-1"):\n    log.info("a")\nlog.info("b")')
    assert json.loads(inside)["run"] == "digits-1"
    assert "run" not in json.loads(outside)


def test_logs_of_other_libraries_have_the_same_form():
    (line,) = logged('logging.getLogger("grpc._server").warning("odd %s", "peer")')
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["service"]) == ("odd peer", "warning", "fitter")
    assert "timestamp" in entry


@pytest.mark.parametrize("how", ["log.exception('failed')", "logging.getLogger('x').exception('failed')"])
def test_a_traceback_stays_on_its_line(how):
    (line,) = logged(f"try:\n    1 / 0\nexcept ZeroDivisionError:\n    {how}")
    assert "ZeroDivisionError: division by zero" in json.loads(line)["exception"]


def test_an_error_passed_as_a_value_is_logged_with_its_traceback():
    (line,) = logged("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    x = e\nlog.error('failed', exc_info=x)")
    assert "ZeroDivisionError: division by zero" in json.loads(line)["exception"]


@pytest.mark.parametrize(("level", "events"), [("debug", ["d", "i", "w", "e"]), ("warning", ["w", "e"])])
def test_lower_levels_are_left_out(level, events):
    lines = logged('log.debug("d"); log.info("i"); log.warning("w"); log.error("e")', level=level)
    assert [json.loads(line)["event"] for line in lines] == events


def test_values_that_json_lacks_are_logged_as_text():
    (line,) = logged('import pathlib; log.info("x", path=pathlib.Path("/a"), bytes=b"b")')
    assert json.loads(line)["path"] == "/a"


def test_the_console_format_is_for_people():
    (line,) = logged('log.info("path done", targets=3)', format="console")
    assert "path done" in line
    assert "targets=3" in line
    assert not line.startswith("{")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (TelemetrySettings(level="loud"), "DATAMODELS_LOG_LEVEL='loud': must be one of debug, info, warning, error"),
        (TelemetrySettings(format="xml"), "DATAMODELS_LOG_FORMAT='xml': must be json or console"),
    ],
)
def test_a_wrong_setting_is_named(settings, fault):
    with pytest.raises(SettingsError, match=f"^{fault}$"):
        configure_logging(settings, "fitter")
