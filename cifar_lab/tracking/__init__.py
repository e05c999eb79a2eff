"""Records of the work: the journals on disk, and their view in MLflow."""
