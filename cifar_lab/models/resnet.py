"""The lab's network: a configurable ResNet of basic blocks for small square images.

With `recipe.model` at its defaults it is the Efficient ResNet of Thakur, Chauhan and Gupta (2023, arXiv:2306.12100);
with blocks [2, 2, 2, 2] and no SE it is the ResNet-18 of He et al. (2016) in its CIFAR form.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cifar_lab.config import recipe
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.seeding import stream
from cifar_lab.models.cost import FILTERS
from cifar_lab.models.se import SEBlock
from cifar_lab.models.whitening import Whitening

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
}
"""Classes of the activations by the names in `model.activation`."""
CHANNELS_LAST_FROM = 16
"""Width from which convolutions run channels_last.

Below it oneDNN corrupts memory in backward passes: 3.12 below 8 channels on AVX2 processors; 3.13 below 16 on AVX-512,
in 1×1 convolutions of stride 2 with several threads and a batch that these do not divide.
"""


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut, which is a projection if the shape changes.

    In training, the convolutions are skipped for each image with probability `skipped`.
    """

    def __init__(
        self,
        model: recipe.ModelConfig,
        channels_in: int,
        channels: int,
        *,
        kernel: int,
        shortcut_kernel: int,
        stride: int,
        skipped: float,
    ) -> None:
        super().__init__()
        self.skipped = skipped
        self.activation = _activation(model)
        self.conv1 = _conv(model, channels_in, channels, kernel, stride)
        self.bn1 = _norm(model, channels)
        self.conv2 = _conv(model, channels, channels, kernel)
        self.bn2 = _norm(model, channels)
        self.se = _se(model, channels, placement="block")
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                _conv(model, channels_in, channels, shortcut_kernel, stride), _norm(model, channels)
            )

    def forward(self, x: Tensor) -> Tensor:  # (N, C_in, H, W) -> (N, C, H / stride, W / stride)
        y = self.activation(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        if self.training and self.skipped:
            y = skip_at_random(y, self.skipped)
        return self.activation(y.add_(self.shortcut(x)))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Stem, layers of basic blocks, global average pool, classifier."""

    def __init__(self, model: recipe.ModelConfig, classes: int = CIFAR10_SHAPE.classes) -> None:
        super().__init__()
        wide = model.width >= CHANNELS_LAST_FROM
        self.memory_format = torch.channels_last if wide else torch.contiguous_format
        self.whitening: nn.Module = Whitening() if model.stem == "whitening" else nn.Identity()
        self.conv1 = _conv(model, *((FILTERS, model.width, 1) if model.stem == "whitening" else (3, model.width, 3)))
        self.pool: nn.Module = nn.MaxPool2d(2) if model.stem_pool else nn.Identity()
        self.bn1 = _norm(model, model.width)
        self.se = _se(model, model.width, placement="stem")
        self.activation = _activation(model)
        channels = model.width
        for i in range(len(model.blocks)):
            self.add_module(f"layer{i + 1}", _layer(model, i, channels))
            channels = model.width * 2**i
        self.depth = len(model.blocks)
        self.extra_fc: nn.Module = nn.Identity()
        if model.extra_fc is not None:
            self.extra_fc = nn.Sequential(nn.Linear(channels, model.extra_fc), _activation(model))
        self.dropout: nn.Module = nn.Dropout(model.dropout) if model.dropout else nn.Identity()
        self.classifier = nn.Linear(model.extra_fc or channels, classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, side, side) -> (N, classes)
        x = x.contiguous(memory_format=self.memory_format)
        x = self.pool(self.conv1(self.whitening(x)))  # (N, width, side, side), or half the side where it pools
        x = self.se(self.activation(self.bn1(x)))
        for i in range(self.depth):
            x = self.get_submodule(f"layer{i + 1}")(x)
        x = x.mean(dim=(2, 3))  # (N, C)
        return self.classifier(self.dropout(self.extra_fc(x)))  # type: ignore[no-any-return]


def build_resnet(
    model: recipe.ModelConfig, *, seed: int, images: ImageShape = CIFAR10_SHAPE, device: torch.device | str = "cpu"
) -> ResNet:
    """Build the network for `images` with its initial weights, on `device`.

    Each parameter is drawn from a stream given by its name, so that two variants with one seed share every parameter of
    equal name and shape, whatever else differs. The distributions are PyTorch's defaults, as in the writeup's code:
    uniform in ±1/√fan_in for convolutions and linear layers (He et al., 2015, with a = √5).
    """
    with torch.device("meta"):
        net = ResNet(model, images.classes)
    # As `to_empty`, but without its `empty_like` of meta tensors, which loads sympy: 0.4 s of each command.
    net._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))  # type: ignore[no-untyped-call]
    for name, module in net.named_modules():
        _initialise(module, name, seed)
    return net.to(device=device, memory_format=net.memory_format)  # type: ignore[call-overload, no-any-return]


def _initialise(module: nn.Module, name: str, seed: int) -> None:
    if isinstance(module, Whitening):
        module.reset()
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_running_stats()
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.Conv2d, nn.Linear)):
        bound = 1 / math.sqrt(module.weight[0].numel())
        for leaf, parameter in module.named_parameters(recurse=False):
            generator = torch.Generator().manual_seed(stream(seed, "init", f"{name}.{leaf}"))
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def skip_at_random(branch: Tensor, probability: float) -> Tensor:
    """Set a branch, (N, C, H, W), to 0 for each image with `probability`, in [0, 1), and scale up the others.

    Their mean stays as it is: what Huang et al. (2016) scale down in evaluation is scaled up in training. It draws from
    torch's generator of the device, as dropout does.
    """
    kept = torch.empty(len(branch), 1, 1, 1, dtype=branch.dtype, device=branch.device).bernoulli_(1 - probability)
    return branch * kept.div_(1 - probability)


def _layer(model: recipe.ModelConfig, i: int, channels_in: int) -> nn.Sequential:
    channels, before, depth = model.width * 2**i, sum(model.blocks[:i]), sum(model.blocks)

    def block(number: int, channels_in: int, stride: int) -> BasicBlock:
        return BasicBlock(
            model, channels_in, channels, stride=stride, kernel=model.kernels[i],
            shortcut_kernel=model.shortcut_kernels[i],
            skipped=model.stochastic_depth * (before + number) / depth,
        )  # fmt: skip

    first = block(1, channels_in, 1 if i == 0 else 2)
    return nn.Sequential(first, *(block(number, channels, 1) for number in range(2, model.blocks[i] + 1)))


def _activation(model: recipe.ModelConfig) -> nn.Module:
    """Return the activation; ReLU in place, as nothing needs a sum or a norm's output to go backward."""
    return nn.ReLU(inplace=True) if model.activation == "relu" else ACTIVATIONS[model.activation]()


def _conv(model: recipe.ModelConfig, channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    # Without batch norm nothing else shifts the channels, so the convolution gets the bias that the norm had.
    return nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, bias=not model.batch_norm)


def _norm(model: recipe.ModelConfig, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if model.batch_norm else nn.Identity()


def _se(model: recipe.ModelConfig, channels: int, *, placement: str) -> nn.Module:
    if model.se.placement != placement:
        return nn.Identity()
    return SEBlock(channels, model.se.hidden(channels))
