"""Declarations of ablations and their registry."""

from cifar_lab.ablation.ablation import Ablation, Claim, Variant

__all__ = ["Ablation", "Claim", "Variant"]
