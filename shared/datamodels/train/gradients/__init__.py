"""Gradients of single examples: what trainers offer, and how those of any PyTorch network are computed."""

from datamodels.train.gradients.base import Gradients, GradientTrainer, LayerFactors, offered, slices
from datamodels.train.gradients.replay import Replay, ReplayTrainer, replayable

__all__ = ["GradientTrainer", "Gradients", "LayerFactors", "Replay", "ReplayTrainer", "offered", "replayable", "slices"]
