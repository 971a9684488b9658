"""Define residual networks for images: ResNet-9 and ResNet-18.

A network takes uint8 images [rows, h, w, 3] and holds the mean and deviation that they are normalised with. So the
parameters and buffers of a network are the whole model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

PATCH = 2
"""Side of the patches that the whitening layer decorrelates, in pixels."""
WHITENED = 2 * 3 * PATCH * PATCH
"""Filters of the whitening layer: each principal direction of a patch, and its negative."""
SMALLEST_VARIANCE = 5e-4
"""Added to variances before dividing by them, so that directions without variance, as in grey images, stay small."""


class Network(nn.Module):
    """A body and a linear head, with normalisation before the first layer.

    body        maps images [rows, 3, h, w] to features [rows, features]
    identity    whether filters start as the identity on their first channels (Jordan 2024); all others start as in
                PyTorch
    head_scale  factor of the logits
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, body: nn.Module, features: int, classes: int, *, identity: bool = False, head_scale: float = 1):
        super().__init__()
        self.body, self.head = body, nn.Linear(features, classes)
        self.identity, self.head_scale = identity, head_scale
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("spread", torch.ones(3))

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits [rows, classes] of images uint8[rows, h, w, 3]; pixels are blank if `keep` is false there.

        keep  bool[rows, h, w, 1]
        """
        x = self.normalised(x)
        if keep is not None:
            x = x * keep
        features = self.body(x.permute(0, 3, 1, 2))
        with torch.autocast(
            x.device.type, enabled=False
        ):  # margins are differences, which halves of 8 or 11 bits would round away
            return self.head(features.to(self.head.weight.dtype)) * self.head_scale

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(self.mean.dtype) - self.mean) / self.spread

    @torch.no_grad()
    def start(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Draw new weights, and fit normalisation and whitening to images uint8[rows, h, w, 3].

        images  from the model's subset only, because a model must not depend on other examples
        """
        pixels = images.reshape(-1, 3).to(self.mean.dtype)
        self.mean.copy_(pixels.mean(dim=0))
        self.spread.copy_(pixels.std(dim=0, correction=0).clamp_min(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _uniform(module, generator)
            if isinstance(module, nn.Conv2d) and self.identity and module.in_channels <= module.out_channels:
                nn.init.dirac_(module.weight[: module.in_channels])
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None, "those of _block keep both"
                module.weight.fill_(1)
                module.bias.zero_()
                module.running_mean.zero_()
                module.running_var.fill_(1)
            if isinstance(module, Whitening):
                module.fit(self.normalised(images).permute(0, 3, 1, 2))


class Whitening(nn.Module):
    """Maps patches of pixels to uncorrelated numbers of variance 1, by filters that are not trained."""

    filters: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.zeros(WHITENED, 3, PATCH, PATCH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.filters)

    def fit(self, x: torch.Tensor) -> None:
        """Fit the filters to images [rows, 3, h, w]: eigenvectors of a 12 x 12 matrix, on the host, once per model."""
        patches = functional.unfold(x, PATCH).transpose(1, 2).reshape(-1, 3 * PATCH * PATCH)
        patches = patches - patches.mean(dim=0)
        covariance = (patches.T @ patches / len(patches)).double().cpu()
        variance, direction = torch.linalg.eigh(torch.nan_to_num(covariance))
        scaled = (direction / (variance.clamp_min(0) + SMALLEST_VARIANCE).sqrt()).T.reshape(-1, 3, PATCH, PATCH)
        self.filters.copy_(torch.cat([scaled, -scaled]))


def resnet9(classes: int, width: int = 64, *, fast: bool = False) -> Network:
    """Return a ResNet-9, after Page 2018 (How to train your ResNet) with the layers of FFCV's CIFAR-10 example.

    width  channels of the first layer; all others are multiples of it; 64 as published
    fast   for the recipe of that name: a whitening layer in place of the first layer, GELU in place of ReLU, and
           filters that start as the identity
    """
    activation = nn.GELU if fast else nn.ReLU
    forget = 0.4 if fast else 0.1  # a short training must forget the statistics of its first batches faster

    def block(inputs: int, outputs: int, **options) -> nn.Sequential:
        return _block(inputs, outputs, activation, forget, **options)

    if fast:
        first = nn.Sequential(Whitening(), activation(), block(WHITENED, 2 * width), nn.MaxPool2d(2, ceil_mode=True))
    else:
        first = nn.Sequential(block(3, width), block(width, 2 * width, kernel=5, stride=2))
    body = nn.Sequential(
        first,
        _Residual(block(2 * width, 2 * width), block(2 * width, 2 * width)),
        block(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _Residual(block(4 * width, 4 * width), block(4 * width, 4 * width)),
        block(4 * width, 2 * width, padding=0),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    return Network(body, 2 * width, classes, identity=fast, head_scale=0.2)


def resnet18(classes: int, width: int = 64) -> Network:
    """Return a ResNet-18 (He et al. 2016, arXiv 1512.03385, table 1).

    width  channels of the first stage; 64 as published
    """
    stages: list[nn.Module] = [_block(3, width, kernel=7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        stages += [_Basic(inputs, outputs, 1 if stage == 0 else 2), _Basic(outputs, outputs, 1)]
        inputs = outputs
    body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(body, inputs, classes)


def _block(
    inputs: int,
    outputs: int,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
    forget: float = 0.1,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int | None = None,
) -> nn.Sequential:
    padding = kernel // 2 if padding is None else padding
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs, momentum=forget),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class _Residual(nn.Module):
    def __init__(self, *blocks: nn.Module):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.blocks(x)


class _Basic(nn.Module):
    """Two 3 x 3 blocks and a shortcut, which is projected if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.blocks = nn.Sequential(_block(inputs, outputs, stride=stride), _block(outputs, outputs, None))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _block(inputs, outputs, None, kernel=1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.blocks(x) + self.shortcut(x))


def _uniform(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """Draw a layer's parameters uniformly in +-1/sqrt(fan in), as PyTorch's layers do."""
    bound = module.weight[0].numel() ** -0.5
    module.weight.uniform_(-bound, bound, generator=generator)
    if module.bias is not None:
        module.bias.uniform_(-bound, bound, generator=generator)
