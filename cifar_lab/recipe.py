"""Old import path of recipes in ablation files; new files write `from cifar_lab import EFFICIENT_RESNET`."""

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.recipe import Recipe

__all__ = ["EFFICIENT_RESNET", "FAST", "RESNET18", "Recipe"]
