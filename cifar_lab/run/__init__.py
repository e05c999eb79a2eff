"""Train the cells of an ablation: the plan, the training of one cell, and the engine that runs cells in processes."""
