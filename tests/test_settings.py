import dataclasses
import inspect
import os
import subprocess
import sys
from typing import ClassVar

import pytest

from datamodels import settings
from datamodels.environment import Settings
from datamodels.errors import SettingsError
from datamodels.settings import ServeSettings, StoreSettings
from tests.helpers.waiting import LIMIT


def groups():
    return [c for c in vars(settings).values() if inspect.isclass(c) and issubclass(c, Settings)]


@pytest.mark.parametrize("group", groups())
def test_defaults_load_from_an_empty_environment(group):
    assert group.load({}) == group()


def other(value):
    """Returns a different value of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 3 if isinstance(value, int | float) else value + "x"


@pytest.mark.parametrize("group", groups())
def test_every_field_survives_the_environment(group):
    changed = group(**{f.name: other(getattr(group(), f.name)) for f in dataclasses.fields(group)})
    environ = changed.environ()
    assert all(name.startswith(f"{group.prefix}_") and name.isupper() for name in environ)
    assert group.load(environ) == changed


def test_no_two_fields_share_a_variable():
    names = [name for group in groups() for name in group().environ()]
    assert len(names) == len(set(names))


def test_only_the_named_variable_is_read():
    assert ServeSettings.load({"DATAMODELS_SERVE_PORT": "7", "DATAMODELS_STORE_URL": "file://x"}).port == 7


def test_the_process_environment_is_the_default():
    ended = subprocess.run(
        [sys.executable, "-c", "from datamodels.settings import StoreSettings; print(StoreSettings.load().url)"],
        env=os.environ | {"DATAMODELS_STORE_URL": "s3://bucket/here"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.stdout.strip() == "s3://bucket/here"


@pytest.mark.parametrize(
    ("group", "variable", "text", "fault"),
    [
        (ServeSettings, "DATAMODELS_SERVE_PORT", "many", "DATAMODELS_SERVE_PORT='many': must be int"),
        (ServeSettings, "DATAMODELS_SERVE_PORT", "1.5", "DATAMODELS_SERVE_PORT='1.5': must be int"),
        (ServeSettings, "DATAMODELS_SERVE_GRACE", "", "DATAMODELS_SERVE_GRACE='': must be float"),
        (ServeSettings, "DATAMODELS_SERVE_REFLECTION", "yes", "DATAMODELS_SERVE_REFLECTION='yes': must be true or"),
        (StoreSettings, "DATAMODELS_STORE_ATTEMPTS", "x", "DATAMODELS_STORE_ATTEMPTS='x': must be int"),
    ],
)
def test_a_wrong_value_names_its_variable(group, variable, text, fault):
    with pytest.raises(SettingsError) as caught:
        group.load({variable: text})
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize("text, value", [("true", True), ("TRUE", True), ("1", True), ("False", False), ("0", False)])
def test_the_spellings_of_a_boolean(text, value):
    assert ServeSettings.load({"DATAMODELS_SERVE_REFLECTION": text}).reflection is value


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServeSettings().port = 3


def test_a_group_defined_elsewhere_is_read_the_same_way():
    @dataclasses.dataclass(frozen=True)
    class Mine(Settings):
        prefix: ClassVar[str] = "MINE"
        size: int = 1

    assert Mine.load({"MINE_SIZE": "4"}) == Mine(size=4)
