from tests.runners.cluster.conftest import api, cluster  # noqa: F401 - fixtures
