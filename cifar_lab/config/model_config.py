"""The network part of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cifar_lab.config.built_in_names import MODELS, ExtensionOptions, require_no_options
from cifar_lab.config.recipe_part import Count, Kernel, RecipePart
from cifar_lab.extension import Options


class SEConfig(RecipePart):
    """Squeeze-and-excitation (Hu et al., 2018): per-channel gates from globally pooled features."""

    placement: Literal["none", "stem", "block"] = "stem"
    """Place of squeeze-and-excitation: none, after the stem, or in each block."""
    reduction: Count = 16
    """Reduction ratio of squeeze-and-excitation."""

    def hidden(self, channels: int) -> int:
        """Return the width of the bottleneck for `channels` channels, at least 1."""
        return max(1, channels // self.reduction)


class ModelConfig(RecipePart):
    """A ResNet of basic blocks; layer i has `width * 2**i` channels and halves the image from the second on.

    The other fields have no effect on a network of a user.
    """

    blocks: Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)] = (4, 4, 3)
    """Residual blocks of each layer."""
    width: Count = 64
    """Channels of the first layer; each later layer has twice as many."""
    stem: Literal["conv", "whitening"] = "conv"
    """First layer: a convolution, or fixed whitening filters with a 1×1 convolution.

    `whitening`: fixed filters that whiten 3×3 patches, then a 1×1 convolution (Page, 2018; Jordan, 2024).
    """
    stem_pool: bool = False
    """Max pool of 2×2 after the stem's convolution.

    Every layer sees half the resolution (Jordan, 2024).
    """
    kernel: Kernel | tuple[Kernel, ...] = 3
    """Kernel size of the blocks' convolutions, odd: one for all layers, or one each.

    The stem is always 3×3.
    """
    shortcut_kernel: Kernel | tuple[Kernel, ...] = 1
    """Kernel size of the shortcuts' projections, odd: one for all layers, or one each.

    The first layer has no projection.
    """
    batch_norm: bool = True
    """Batch normalisation after each convolution."""
    extra_fc: Count | None = None
    """Width of a fully connected layer before the output; none: no such layer.

    ReLU follows it.
    """
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability before the classifier."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish"] = "relu"
    """Activation of the stem, the blocks and the extra fully connected layer.

    PyTorch's own, with its defaults. Squeeze-and-excitation and the whitening stem keep their ReLU.
    """
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that the last block of an image is skipped in training; 0: off.

    Block l of L is skipped with l / L of it, and what is kept is scaled up (Huang et al., 2016, arXiv:1603.09382).
    """
    se: SEConfig = SEConfig()
    name: Annotated[str, MODELS] = "resnet"
    """Network: the built-in one, or your own; the other fields of model do not apply to your own."""
    options: ExtensionOptions = Options()
    """Options of your own network."""

    @property
    def kernels(self) -> tuple[int, ...]:
        return self._per_layer(self.kernel)

    @property
    def shortcut_kernels(self) -> tuple[int, ...]:
        return self._per_layer(self.shortcut_kernel)

    def _per_layer(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * len(self.blocks) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("model", self.name, self.options, MODELS)
        return self

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        for path, kernels in (("kernel", self.kernels), ("shortcut_kernel", self.shortcut_kernels)):
            if len(kernels) != len(self.blocks):
                raise ValueError(
                    f"model.{path}={list(kernels)} names {len(kernels)} layers, model.blocks {len(self.blocks)}"
                )
            if any(side % 2 == 0 for side in kernels):
                raise ValueError(f"model.{path} must be odd, got {list(kernels)}")
        return self
