"""Metrics of a driver. A driver is of one run, so its pod's label says which."""

from __future__ import annotations

from prometheus_client import Gauge

DONE = Gauge("datamodels_run_done", "How far a stage is: models, targets, as it counts them.", ("stage",))
EXPECTED = Gauge("datamodels_run_expected", "How far a stage will be when it is done.", ("stage",))
LDS = Gauge("datamodels_run_lds", "LDS of the newest fit, with the ends of its 95% interval.", ("end",))
LDS_MODELS = Gauge("datamodels_run_lds_models", "Models that the fit is of.")
