"""Training: the contract of trainers, built-in trainers, and the job that runs them."""

from datamodels.outputs import Output
from datamodels.run.dataset import NOT_IN_POOL, Dataset, Targets

__all__ = ["NOT_IN_POOL", "Dataset", "Output", "Targets"]
