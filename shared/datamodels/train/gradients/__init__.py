"""Gradients of single examples: what trainers offer, and how those of any PyTorch network are computed."""

from datamodels.train.gradients.base import Gradients, GradientTrainer, LayerFactors, offered, slices

__all__ = ["GradientTrainer", "Gradients", "LayerFactors", "offered", "slices"]
