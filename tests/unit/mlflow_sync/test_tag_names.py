"""Stores that were filled when the upload's own tags had no prefix: nothing is sent twice, and views find all cells."""

from __future__ import annotations

import json
import shutil
import time
import zlib
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest

from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import has_all, sync_invocations
from cifar_lab.mlflow_sync.tag_names import outdated_tags
from cifar_lab.store.invocation_index import read_index

FORMER_NAMES = ("began", "below", "delta_to", "noted", "settled", "shipped_to")


@pytest.fixture
def sync(study: Any, store: MLflowStore) -> Callable[[], tuple[int, int]]:
    def sync() -> tuple[int, int]:
        invocations = read_index(study.runs).invocations
        return sync_invocations(study.runs, invocations, store, draw=lambda _: {}, say=pytest.fail)[:2]

    return sync


@pytest.fixture
def make_former(client: Any) -> Callable[..., None]:
    """`make_former()`: give the store the tags that a version without the prefix wrote."""

    def make_former(**changed: str) -> None:
        experiment = client.get_experiment_by_name("se_ratio").experiment_id
        for run in client.search_runs([experiment]):
            own = {key: value for key, value in run.data.tags.items() if key.startswith("cifar_lab.")}
            former = {key.removeprefix("cifar_lab."): value for key, value in own.items()}
            assert all(key in FORMER_NAMES or key.startswith("setting.") for key in former)
            if run.data.tags["role"] == "cell":
                former |= {"dataset": "d" * 64, "shipped": "complete", **changed}
            for key in own:
                client.delete_tag(run.info.run_id, key)
            for key, value in former.items():
                client.set_tag(run.info.run_id, key, value)

    return make_former


def shown_filter(client: Any) -> str:
    """The filter of the view that the UI opens."""
    tags = client.get_experiment_by_name("se_ratio").tags
    (view,) = [value for key, value in tags.items() if key.startswith("mlflow.sharedViewState.")]
    state = json.loads(view)["state"].removeprefix("deflate;")
    return str(json.loads(zlib.decompress(b64decode(state)))["searchFilter"])


def test_nothing_is_sent_again_and_the_view_has_every_cell(
    study: Any, sync: Any, store: MLflowStore, client: Any, make_former: Any, runs_of: Any
) -> None:
    study.invocation()
    study.all()
    assert sync() == (4, 0)
    before = {name: run.data.tags for name, run in runs_of("se_ratio").items()}
    make_former()
    assert has_all(study.runs, study.invocation(time="20260102T000000.000"), store)
    assert sync() == (0, 0)
    after = {name: run.data.tags for name, run in runs_of("se_ratio").items()}
    for name, tags in before.items():
        own = {key: value for key, value in tags.items() if key.startswith("cifar_lab.") and not key.endswith("below")}
        assert own.items() <= after[name].items()
    experiment = client.get_experiment_by_name("se_ratio").experiment_id
    assert "`cifar_lab.setting." in shown_filter(client)
    assert len(client.search_runs([experiment], shown_filter(client))) == 4


def test_files_that_were_refused_are_sent_later(study: Any, sync: Any, make_former: Any) -> None:
    study.invocation(seeds=1, variants=("r4",))
    study.whole("r4", 0)
    assert sync() == (1, 0)
    make_former(shipped="without files")
    assert sync() == (1, 0)
    assert sync() == (0, 0)


def test_a_cell_that_is_trained_anew_supersedes_its_former_run(
    study: Any, sync: Any, client: Any, make_former: Any, runs_of: Any
) -> None:
    study.invocation(seeds=1, variants=("r4",))
    study.whole("r4", 0)
    sync()
    make_former()
    old = runs_of("se_ratio")["r4/s0"]
    shutil.rmtree(study.record("r4", 0).folder)
    time.sleep(0.002)
    study.whole("r4", 0)
    assert sync() == (1, 0)
    assert client.get_run(old.info.run_id).data.tags["role"] == "superseded"
    assert runs_of("se_ratio")["r4/s0"].info.run_id != old.info.run_id


def test_present_names_take_precedence() -> None:
    assert outdated_tags({"shipped_to": "1", "cifar_lab.shipped_to": "2", "seed": "0", "team": "vision"}) == {}
    assert outdated_tags({"setting.1a": "current", "below": "x"}) == {
        "cifar_lab.setting.1a": "current", "cifar_lab.below": "x",
    }  # fmt: skip
    assert outdated_tags({"shipped": "complete", "shipped_to": "1"}) == {"cifar_lab.shipped_to": "1"}
