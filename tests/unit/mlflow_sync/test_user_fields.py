"""Fields of a user's own in MLflow: tags, notes, names of experiments; and who uploaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.cli import run
from cifar_lab.cli.tracking_options import parse_labels
from cifar_lab.errors import UsageError
from cifar_lab.mlflow_sync.client import MLflowStore, experiment_name
from cifar_lab.mlflow_sync.invocation_sync import has_all, sync_invocations
from cifar_lab.mlflow_sync.user_fields import naming_experiments
from cifar_lab.store.invocation import read_invocation
from cifar_lab.store.invocation_index import read_index


@pytest.fixture
def sync(study: Any, store: MLflowStore) -> Callable[[], None]:
    def sync() -> None:
        invocations = read_index(study.runs).invocations
        sync_invocations(study.runs, invocations, store, draw=lambda _: {}, say=pytest.fail)

    return sync


def test_tags_and_the_note_are_on_the_runs_and_in_the_record(
    study: Any, sync: Any, runs_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    invocation = study.invocation(seeds=1, labels={"team": "vision", "paper": "draft 2"}, note="**Why**\nas above")
    study.whole("r4", 0)
    sync()
    (parent,) = runs_of("se_ratio", "invocation").values()
    cell = runs_of("se_ratio")["r4/s0"]
    for each in (parent, cell):
        assert (each.data.tags["team"], each.data.tags["paper"]) == ("vision", "draft 2")
        assert each.data.tags["mlflow.user"] == "ada"
    assert parent.data.tags["mlflow.note.content"].startswith("**Why**\nas above\n\n")
    assert read_invocation(study.runs / "invocations" / f"{invocation.id}.json") == invocation


def test_other_tags_are_a_reason_to_upload_again(study: Any, sync: Any, store: MLflowStore) -> None:
    study.invocation(seeds=1)
    study.all()
    sync()
    assert has_all(study.runs, study.invocation(seeds=1, time="20260102T000000.000"), store)
    tagged = study.invocation(seeds=1, time="20260103T000000.000", labels={"team": "vision"})
    assert not has_all(study.runs, tagged, store)


def test_an_experiment_is_named_with_the_prefix_and_found_again(
    study: Any, sync: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert experiment_name("se_ratio") == "mine/se_ratio"
    study.invocation(seeds=1)
    study.whole("r4", 0)
    sync()
    sync()
    names = {each.name: each.experiment_id for each in client.search_experiments()}
    assert set(names) == {"Default", "mine/se_ratio"}
    assert len(client.search_runs([names["mine/se_ratio"]], "tags.role = 'cell'")) == 1


def test_the_option_sets_the_variable_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "before")
    with naming_experiments(None, "--experiment-prefix"):
        assert experiment_name("a") == "before/a"
    with naming_experiments("after", "--experiment-prefix"):
        assert experiment_name("a") == "after/a"
    assert experiment_name("a") == "before/a"
    with pytest.raises(UsageError, match="--x takes one line"), naming_experiments("x\ny", "--x"):
        pass


def test_tags_are_words_with_an_equals_sign() -> None:
    assert parse_labels(["team=vision", "x.y=a=b", "empty="]) == {"team": "vision", "x.y": "a=b", "empty": ""}


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("team", "takes KEY=VALUE"), ("=x", "takes KEY=VALUE"), ("a\tb=x", "takes KEY=VALUE"),
        ("role=x", "'role' is a tag that MLflow or cifar-lab sets"), ("mlflow.user=me", "choose another key"),
        ("long=" + "x" * 5001, "at most 5,000 characters"), ("line=a\nb", "a value is one line"),
    ],
)  # fmt: skip
def test_a_tag_that_would_break_something_is_refused_in_one_line(
    word: str, rule: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run-ablation", "se_ratio", "--tag", word]) == 2
    error = capsys.readouterr().err
    assert rule in error
    assert error.count("\n") == 1
    assert not list(folder.iterdir())


def test_every_tag_of_the_upload_is_refused_as_a_users(study: Any, sync: Any, runs_of: Any) -> None:
    study.invocation()
    study.all()
    sync()
    (parent,) = runs_of("se_ratio", "invocation").values()
    own = {key for each in (parent, *runs_of("se_ratio").values()) for key in each.data.tags}
    for key in own:
        with pytest.raises(UsageError):
            parse_labels([f"{key}=x"])
