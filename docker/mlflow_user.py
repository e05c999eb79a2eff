"""Give an MLflow server the account that trains, or its new password: `mlflow_user.py NAME PASSWORD_FILE`.

The server is that of `MLFLOW_TRACKING_URI`; its administrator's name and password are MLflow's own variables,
`MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`. It is safe to repeat.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient


def set_account(client: AuthServiceClient, name: str, password: str) -> str:
    """Create the account `name` unless it exists, else set its password; return what was done."""
    try:
        client.get_user(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(name, password)
        return f"made the account {name}"
    client.update_user_password(name, password)
    return f"the account {name} is there; its password is that of the secret"


def main(name: str, file: str) -> int:
    """Set the account; return the exit code, 2 with one line if the file or the server refuses."""
    try:
        password = Path(file).read_text().rstrip("\n")
        print(set_account(AuthServiceClient(os.environ["MLFLOW_TRACKING_URI"]), name, password))
    except (OSError, MlflowException) as error:
        print(f"mlflow_user: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
