"""Upload of records to MLflow: the only package that talks to it."""
