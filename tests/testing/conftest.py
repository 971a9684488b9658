from tests.fit.conftest import made_problem  # noqa: F401 - a fixture
