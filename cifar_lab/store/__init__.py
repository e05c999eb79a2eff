"""Files of a runs folder: cell records, journals, invocations. Nothing here knows MLflow."""
