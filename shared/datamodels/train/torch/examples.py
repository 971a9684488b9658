"""Define the networks of the example specs, and of benchmarks. docs/guides shows them as a user would write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def cnn() -> nn.Module:
    """Return a small convolutional network for the digits."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def smooth_cnn() -> nn.Module:
    """Return a smaller one without kinks, so that its trainings can be differentiated exactly."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 32),
        nn.GELU(),
        nn.Linear(32, 10),
    )


def mnist_cnn() -> nn.Module:
    """Return a convolutional network for images of 28 x 28 pixels.

    A hidden dense layer of 16 units would cut the SNR of its outputs from 0.6 to 0.2.
    """
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(10),
    )


def transformer(words: int = 1000, length: int = 48, classes: int = 8) -> nn.Module:
    """Return a BERT of one layer with new weights, for `text.load_tokens`; needs `transformers`."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=words,
        max_position_embeddings=length,
        num_labels=classes,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    return BertForSequenceClassification(config)


def gpt(words: int = 300, length: int = 24, width: int = 16, layers: int = 1, heads: int = 2) -> nn.Module:
    """Return a GPT-2 with new weights, for `text.load_language`; needs `transformers`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=words,
        n_positions=length,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
        attn_implementation="eager",  # under torch.func, faster than the fused kernel
    )
    return GPT2LMHeadModel(config)


def lightning(features: int = 10, hidden: int = 32) -> nn.Module:
    """Return a Lightning module that predicts a number; needs `lightning`."""
    from lightning import LightningModule

    class Regression(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)[:, 0]

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
            x, y = batch
            return nn.functional.mse_loss(self(x), y)

        def configure_optimizers(self) -> Any:
            optimiser = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)
            return [optimiser], [torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9)]

    return Regression()
