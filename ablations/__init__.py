"""One small file an ablation; the folder is the registry."""
