"""Planning and training of cells: devices, workers, engines and the runner."""
