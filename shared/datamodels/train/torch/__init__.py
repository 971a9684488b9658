"""Any PyTorch module as a trainer: `datamodels.train.torch:TorchTrainer`; docs/guides/trainer.md shows its use."""

from datamodels.train.torch.trainer import TorchTrainer

__all__ = ["TorchTrainer"]
