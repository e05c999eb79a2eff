"""The digest of a comparison key is that of MLflow's tags, which must not change."""

from __future__ import annotations

from cifar_lab.store.comparison_key import ComparisonKey

KEY = ComparisonKey(
    ablation="se_ratio", baseline="b/1", scale="small", data_hash="c" * 64, overrides='{"train.epochs": 3}'
)


def test_the_digest_is_the_one_that_stores_have() -> None:
    assert KEY.digest == "e2a749d7"
