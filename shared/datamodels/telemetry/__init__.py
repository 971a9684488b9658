"""Logs of all processes, and metrics of their gRPC servers. Each stage defines its own metrics in its own package."""

from datamodels.telemetry.logs import bound, configure_logging, logger

__all__ = ["bound", "configure_logging", "logger"]
