from tests.storage.conftest import credentials, ministack  # noqa: F401 - fixtures
