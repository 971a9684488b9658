"""Logs and metrics of every process. The metrics of a stage live with the stage; those of gRPC servers, here."""

from datamodels.telemetry.logs import bound, configure_logging, logger

__all__ = ["bound", "configure_logging", "logger"]
