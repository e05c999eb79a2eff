"""The optimizer part of a recipe: method, rate, Lookahead, gradient clipping, sharpness-aware minimization."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cifar_lab.config.built_in_names import OPTIMIZERS, ExtensionOptions, require_no_options
from cifar_lab.config.recipe_part import Count, RecipePart
from cifar_lab.extension import Options


class LookaheadConfig(RecipePart):
    """Lookahead around the optimizer (Zhang et al., 2019): every `k` steps, move slow weights by `alpha`."""

    enabled: bool = True
    """Lookahead around the optimizer."""
    k: Count = 5
    """Steps between two updates of Lookahead's slow weights."""
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Step size of Lookahead's slow weights."""


class ClipConfig(RecipePart):
    """Gradient clipping: each element to ±threshold (`value`), or the whole gradient's 2-norm (`norm`)."""

    by: Literal["none", "value", "norm"] = "value"
    """Gradient clipping: none, each element, or the norm of the whole gradient."""
    threshold: Annotated[float, Field(gt=0)] = 0.1
    """Threshold of gradient clipping."""


class SAMConfig(RecipePart):
    """Sharpness-aware minimization (Foret et al., 2021): the gradient is that at nearby weights of higher loss."""

    rho: Annotated[float, Field(ge=0)] = 0.0
    """Length of the step of sharpness-aware minimization towards higher loss; 0: off.

    Each training step then takes two forward and two backward passes.
    """
    adaptive: bool = False
    """Scale that step by the size of each weight.

    Kwon et al. (2021, arXiv:2102.11600).
    """


class OptimizerConfig(RecipePart):
    """The optimizer. `momentum` applies to sgd, sgd_nesterov, rmsprop and muon only."""

    name: Annotated[str, OPTIMIZERS] = "sgd"
    """Optimizer: a built-in one, or your own."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd, sgd_nesterov, rmsprop and muon."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Weight decay."""
    decay_norms: bool = True
    """Apply weight decay to batch norm parameters and biases too.

    As in the writeup's code.
    """
    lookahead: LookaheadConfig = LookaheadConfig()
    clip: ClipConfig = ClipConfig()
    sam: SAMConfig = SAMConfig()
    options: ExtensionOptions = Options()
    """Options of your own optimizer, besides lr and weight_decay."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("optim", self.name, self.options, OPTIMIZERS)
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.name == "sgd_nesterov" and self.momentum == 0:
            raise ValueError("optim.name=sgd_nesterov needs optim.momentum > 0")
        return self
