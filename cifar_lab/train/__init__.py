"""Training one recipe, from its first step to its last weights. Nothing here knows of ablations or of files' names."""
