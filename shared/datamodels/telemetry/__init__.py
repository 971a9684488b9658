"""Logs and spans of all processes, and metrics of gRPC servers. Each stage defines its metrics in its own package."""

from datamodels.settings import TelemetrySettings
from datamodels.telemetry import tracing
from datamodels.telemetry.logs import bound, carried, configure_logging, logger, of_process

__all__ = ["bound", "carried", "configure_logging", "logger", "of_process", "start", "tracing"]


def start(settings: TelemetrySettings, service: str) -> None:
    """Send logs and spans of this process where the settings say. Raises SettingsError if they are wrong."""
    configure_logging(settings, service)
    tracing.configure(settings, service)
