"""What is kept of the work: the journal on disk, and its view in MLflow."""
