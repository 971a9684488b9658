"""Property tests: the same examples in every `make test`, many new ones in `make search`.

A test that needs more or fewer examples than 25 says so with `examples`.
"""

from hypothesis import HealthCheck, settings

_EXAMPLES = 25
"""The number of examples that a test tries in `make test` by default."""

_COMMON = {
    "deadline": None,  # the time that an example takes says more about the machine than about the code
    "max_examples": _EXAMPLES,
    "suppress_health_check": [
        HealthCheck.too_slow,  # for the same reason
        HealthCheck.function_scoped_fixture,  # the examples of a test share its fixtures on purpose
        HealthCheck.differing_executors,  # the classes of several stores inherit the same tests
    ],
}


def register(times: int = 80) -> None:
    """Registers the profile `search`, which tries `times` as many new examples, and loads the profile `test`."""
    settings.register_profile("search", **_COMMON | {"max_examples": times * _EXAMPLES}, print_blob=True)
    settings.register_profile("test", **_COMMON, derandomize=True, database=None)
    settings.load_profile("test")  # pytest's --hypothesis-profile is loaded later, and wins


def examples(count: int, **more) -> settings:
    """Makes a test try `count` examples in the profile `test`, and proportionally more in `search`."""
    return settings(max_examples=count * settings.default.max_examples // _EXAMPLES, **more)
