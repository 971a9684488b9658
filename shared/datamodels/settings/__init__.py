"""Define the settings of processes, which are read from environment variables; see `environment`.

Settings say how a process is deployed: addresses, folders, limits. The RunSpec says what is computed. The string below
a field says what the field means and why it has its default; its type gives the unit. `make reference` collects these
texts in docs/reference/settings.md.
"""

from datamodels.settings.common import (
    AuthSettings,
    ClientSettings,
    ServeSettings,
    StoreSettings,
    TelemetrySettings,
    TrustSettings,
)
from datamodels.settings.own import (
    AggregatorSettings,
    ClusterSettings,
    ExplorerSettings,
    FitterSettings,
    IndexedJobSettings,
    QuerySettings,
    TrainerSettings,
)

__all__ = [
    "AggregatorSettings",
    "AuthSettings",
    "ClientSettings",
    "ClusterSettings",
    "ExplorerSettings",
    "FitterSettings",
    "IndexedJobSettings",
    "QuerySettings",
    "ServeSettings",
    "StoreSettings",
    "TelemetrySettings",
    "TrainerSettings",
    "TrustSettings",
]
