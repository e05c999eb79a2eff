"""The view of an experiment in MLflow's UI: a row a variant with its mean, its seeds beneath.

Left to itself the UI shows the newest parent run and no metric. It reads its state from a tag of the experiment, in a
format that MLflow does not document: nothing may depend on it, and a UI that cannot read it shows its own default.
"""

from __future__ import annotations

import base64
import json
import zlib

KEY = "cifar-lab"
TAG = f"mlflow.sharedViewState.{KEY}"
COLUMNS = (
    "metrics.`test/acc`",
    "metrics.`val/acc`",
    "metrics.`gap`",
    "metrics.`seconds`",
    "params.`variant`",
    "params.`seed`",
    "tags.`scale`",
    "tags.`data`",
    "tags.`parameters`",
)


def shared_state() -> str:
    """The value of `TAG`: cells only, the best first, grouped by variant and scale."""
    state = {
        "searchFilter": "tags.role = 'cell'",
        "orderByKey": "metrics.`test/acc`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": tag} for tag in ("variant", "scale")],
        },
        "groupsExpanded": {},
        "runsHiddenMode": "SHOWALL",
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "columnOrder": [],
        "columnWidths": {},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": "by variant", "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})


def link(server: str, experiment: str, *, charts: bool = False) -> str:
    """Address of the view of `experiment` (its id) on `server`, `http://127.0.0.1:5000`."""
    address = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
    return address + ("&compareRunsMode=CHART" if charts else "")
