import io
import logging

from datamodels.cli.common import logs
from datamodels.telemetry import logger


def test_what_a_command_logs_is_a_line_without_secrets_and_codes_for_terminals():
    logs.show()
    out = io.StringIO()
    handler, place = logging.StreamHandler(out), logging.getLogger("test_logs")
    handler.setFormatter(logging.lastResort.formatter)
    place.addHandler(handler)
    try:
        logger("test_logs").warning("reading it once more", key="a/b", reason="\x1b[2J at s3://me:secret@host")
        place.warning("of %s", "another library at https://me:secret@host")
    finally:
        place.removeHandler(handler)
    ours, theirs = out.getvalue().splitlines()
    assert ours.startswith("datamodels: reading it once more: key a/b, reason \N{REPLACEMENT CHARACTER}[2J at s3://")
    assert theirs.startswith("of another library at https://")
    assert "secret" not in out.getvalue() and "timestamp" not in ours
