"""Training of one recipe, from the first step to the final weights, without knowledge of ablations or file names."""
