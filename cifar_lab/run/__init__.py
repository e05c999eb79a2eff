"""From an ablation to trained cells: the plan, one cell, the engine that places cells on processes."""
