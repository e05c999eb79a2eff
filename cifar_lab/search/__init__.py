"""Hyperparameter search under the budget, with Optuna."""
