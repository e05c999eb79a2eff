"""Configuration: recipes, their identity, overrides, scales, execution settings and random seeds."""
