"""Views of ablations in MLflow's UI: one row per variant with its mean, the best first, and charts by variant.

By default the UI shows the newest parent run and no metric. It reads its state from a tag of the experiment, in a
format that MLflow does not document (taken from the 3.17 UI): nothing may depend on it, and a UI that cannot read it
shows its default. A view shows one setting: means over cells of two scales or data sets would be meaningless.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifar_lab.mlflow_sync.run_fields import DELTA
from cifar_lab.mlflow_sync.tag_names import setting_tag
from cifar_lab.results.final_metrics import THRESHOLDS

PREFIX = "mlflow.sharedViewState."
NAME = "cifar-lab"
TAGS = PREFIX + NAME
"""Beginning of the tags that hold views of this package."""
CURRENT, REPLACED = "current", "replaced"
"""Values of a cell's tag for a setting: a current replicate, or one of an outdated recipe of its variant."""
LEFT_OUT = frozenset({0.6, 0.85})
"""Thresholds of accuracy without a column."""
RUN, CREATED, DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"
"""Columns that are always present."""
WIDTHS = {RUN: 190, CREATED: 130, DURATION: 80}
WIDTH = 130
"""Column width in pixels."""
LONGEST = 5000
"""Maximum length of an experiment's tag. Views of many variants do not fit, and are shown unfolded."""
SHOWN = 20
"""Maximum number of variants in one chart."""
PAGE = 100
"""Runs that the UI loads at a time, the first by the order. Its means of a group are those of the loaded ones: of more
cells than these it would show the means of each variant's best, and no other variants."""
GROUPS = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "variant"}]}
SINGLE = "the best single cells, no means"
"""Remark beside the name of a view of more than `PAGE` cells."""


@dataclass(frozen=True, kw_only=True)
class UIView:
    """Settings of the UI for one setting of an ablation."""

    setting: str
    """Digest of the setting: its cells have the tag `setting_tag(setting)`."""
    name: str
    """Readable name: `small · CIFAR-10`."""
    variants: tuple[str, ...]
    cells: int
    """Number of the setting's cells; if they are more than `PAGE`, they are not grouped by variant."""
    metric: str
    """Metric that variants are ordered by: `test/acc`."""
    began: int
    time: int
    """Time of the first and latest invocation, in ms."""

    @property
    def key(self) -> str:
        return f"{NAME}-{self.setting}"

    @property
    def tag(self) -> str:
        """Tag of the experiment that holds the view."""
        return PREFIX + self.key

    def value(self) -> str:
        """Value of `tag`."""
        state = self._state()
        value = self._packed(state)
        return value if len(value) <= LONGEST else self._packed({**state, "groupsExpanded": {}})

    @property
    def _is_grouped(self) -> bool:
        return self.cells <= PAGE

    def _packed(self, state: Mapping[str, Any]) -> str:
        packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
        name = self.name if self._is_grouped else f"{self.name} · {SINGLE}"
        names = {"name": name, "createdAt": self.began, "updatedAt": self.time}
        return json.dumps({**names, "state": f"deflate;{packed}"}, ensure_ascii=False)

    def _state(self) -> dict[str, Any]:
        columns = _columns(self.metric)
        return {
            "searchFilter": f"tags.role = 'cell' and tags.`{setting_tag(self.setting)}` = '{CURRENT}'",
            "orderByKey": f"metrics.`{self.metric}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": columns,
            "columnOrder": [RUN, CREATED, *columns, DURATION],  # widths apply only to columns listed here
            "columnWidths": {**dict.fromkeys(columns, WIDTH), **WIDTHS},
            "groupBy": GROUPS if self._is_grouped else None,
            "groupsExpanded": {f"tag.variant.{each}": False for each in self.variants} if self._is_grouped else {},
            "runsHiddenMode": "SHOW_ALL",
            "useGroupedValuesInCharts": self._is_grouped,
            "hideEmptyCharts": True,
            "isAccordionReordered": True,  # otherwise the UI sorts the sections by name
            **_charts(self.metric, "Which variant is best" if self._is_grouped else "The best single cells"),
        }


def latest(tags: Mapping[str, str]) -> tuple[str, int] | None:
    """Return key and time of the latest requested view of this package, among the tags of an experiment."""
    ours = {key.removeprefix(PREFIX): value for key, value in tags.items() if key.startswith(TAGS)}
    return max(((key, _asked(value)) for key, value in ours.items()), key=lambda item: item[1], default=None)


def stands(present: str | None, wanted: str) -> bool:
    """Tell whether an experiment's tag is as wanted, or is a view that was requested later."""
    return present == wanted or (present is not None and _asked(present) > _asked(wanted))


def link(server: str, experiment: str, key: str, *, charts: bool = False) -> str:
    """Return the address of the view `key` of `experiment` (its id) on `server`, `http://127.0.0.1:5000`."""
    address = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    return address + ("&compareRunsMode=CHART" if charts else "")


def run_link(experiment: str, run: str) -> str:
    """Return the link to a run for a note that is read in the UI, relative to the server."""
    return f"#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"


def _asked(value: str) -> int:
    """Return when the view in a tag was requested, in ms; 0 for one written by another program."""
    try:
        return int(json.loads(value)["updatedAt"])
    except (ValueError, TypeError, KeyError):
        return 0


def _columns(metric: str) -> list[str]:
    names = [metric, DELTA + metric, "test/acc", DELTA + "test/acc", "val/acc", "gap", "seconds"]
    speeds = ["val/auc", "test/auc", *(f"epochs_to/{each}" for each in THRESHOLDS if each not in LEFT_OUT)]
    first, last = ([f"metrics.`{name}`" for name in some] for some in (dict.fromkeys(names), speeds))
    return [*first, "params.`parameters`", *last, "tags.`status`"]


def _charts(metric: str, first: str) -> dict[str, Any]:
    """Return sections of charts, by title, the first named `first`; the UI adds its other charts below them."""
    watched = "val" if metric == "test/acc" else "test"
    sections = {
        first: [_bar(DELTA + metric), _bar(metric), _scatter("seconds", metric)],
        "How it got there": [_line(f"{watched}/acc"), _line("train/loss"), _line("lr")],
        "At what cost": [_bar("seconds"), _bar("gap"), _bar(f"{watched}/auc")],
    }
    charts, titles = [], []
    for i, (title, cards) in enumerate(sections.items()):
        uuid = f"{NAME}-section-{i}"
        titles.append({"uuid": uuid, "name": title, "display": True, "isReordered": True, "isGenerated": False})
        charts += [{**card, "uuid": f"{uuid}-{j}", "metricSectionId": uuid} for j, card in enumerate(cards)]
    return {"compareRunCharts": charts, "compareRunSections": titles}


def _card(kind: str, **settings: Any) -> dict[str, Any]:
    return {"type": kind, "runsCountToCompare": SHOWN, "deleted": False, "isGenerated": False, **settings}


def _bar(metric: str) -> dict[str, Any]:
    return _card("BAR", metricKey=metric, displayName=metric)


def _line(metric: str) -> dict[str, Any]:
    return _card(
        "LINE", metricKey=metric, selectedMetricKeys=[metric], displayName=metric, lineSmoothness=0,
        scaleType="linear", xAxisScaleType="linear", xAxisKey="step", selectedXAxisMetricKey="", yAxisKey="metric",
        yAxisExpressions=[], range={}, useGlobalXaxisKey=True, useGlobalLineSmoothing=True,
    )  # fmt: skip


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _card("SCATTER", displayName=f"{y} by {x}", **axes)
