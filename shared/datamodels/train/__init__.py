"""Training: the contract of trainers, built-in trainers, and the job that runs them."""

from datamodels.run.dataset import NOT_IN_POOL, Dataset, Targets

__all__ = ["NOT_IN_POOL", "Dataset", "Targets"]
