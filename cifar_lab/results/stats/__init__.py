"""Statistics of replicates: numpy and scipy only."""
