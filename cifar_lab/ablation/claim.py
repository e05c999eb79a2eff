"""Claims of a source about variants, and the metrics that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cifar_lab.ablation.declaration import Declaration, Name, as_json
from cifar_lab.config.plain_values import plain
from cifar_lab.errors import AblationError

Points = Annotated[float, Field(gt=0, le=100, strict=True)]
"""Percentage points of accuracy; per cent for an accuracy."""


Metric = Literal["accuracy", "convergence", "early convergence", "gap", "oscillation"]
"""Quantity that a claim is about; `METRICS` defines each."""


METRICS: dict[Metric, str] = {
    "accuracy": "final test accuracy in %; the best epoch's under the writeup protocol",
    "convergence": "mean of the watched accuracy over all epochs, in %",
    "early convergence": "mean of the watched accuracy over the first tenth of the epochs, in %",
    "gap": "final accuracy on clean training images minus the watched one, in points; less is better",
    "oscillation": "standard deviation of the watched accuracy over the last third of the epochs, about its straight "
    "trend, in points; less is better",
}
"""Definition of each metric, with its unit. The watched accuracy is that on val, on test under the writeup protocol."""


LESS_IS_BETTER = frozenset[Metric]({"gap", "oscillation"})
"""Metrics of which the smaller value is better. A diverged training has no value that could stand in its place."""


class Claim(Declaration):
    """Claim of a source about one variant or two, with its number if it gives one; `cifar-lab verify` judges it.

    Raises:
        AblationError: the number of variants does not fit the relation, or a number is invalid for it.
    """

    quote: str
    source: str
    better: Name
    """Variant that the source says is better, one of two that are alike, or the one that reaches an accuracy."""
    worse: Name | None = None
    """Other variant; None for `reaches`."""
    relation: Literal["better", "alike", "not better", "reaches"] = "better"
    """`not better`: `worse` is equivalent to `better`, or worse. `reaches`: `better` alone has the `accuracy`."""
    metric: Metric = "accuracy"
    """Quantity that is compared: a key of `METRICS`."""
    size: Points | None = None
    """Claimed difference; None if the source gives no number."""
    accuracy: Points | None = None
    """Accuracy of a `reaches` claim, in per cent."""
    tolerance: Points | None = None
    """Allowed deviation from `size` or `accuracy`; 0.5 by default, as published numbers are mostly of single runs."""
    question: str | None = None
    """Question that the claim answers; None: in a chain that of the ablation, else that of its `quote`. The intervals
    of the claims that answer one question by one metric hold together at 95 %."""
    scale: Literal["smoke", "small", "writeup"] = "writeup"
    protocol: Literal["holdout", "writeup"] = "writeup"
    under: Annotated[dict[str, Any], AfterValidator(plain)] = Field(default_factory=dict)
    """Settings of the claim that the ablation's baseline lacks, as a diff on it. Judged without them, only the claim's
    direction is tested."""

    @model_validator(mode="before")
    @classmethod
    def _a_number_has_a_tolerance(cls, fields: Any) -> Any:
        has_number = fields.get("size") is not None or fields.get("accuracy") is not None
        return {"tolerance": 0.5, **fields} if has_number else fields

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        said = f"claim '{self.relation}' about '{self.better}'"
        if self.relation == "reaches":
            if self.worse is not None or self.accuracy is None or self.metric != "accuracy":
                raise AblationError(f"{said}: it takes accuracy=…, and neither worse=… nor another metric")
        elif self.worse is None:
            raise AblationError(f"{said}: worse=… is missing, the variant that it is compared with")
        elif self.accuracy is not None:
            raise AblationError(f"{said}: accuracy={self.accuracy:g} is for relation 'reaches'; a difference is a size")
        if self.worse == self.better:
            raise AblationError(f"a claim compares two variants, and this one '{self.better}' with itself")
        if self.size is not None and self.relation != "better":
            raise AblationError(f"{said}: size={self.size:g} is for relation 'better'")
        if self.tolerance is not None and self.size is None and self.accuracy is None:
            raise AblationError(f"{said}: tolerance={self.tolerance:g} without a size or an accuracy")
        return self

    def missing(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of `under` that `overrides` lack."""
        return {path: value for path, value in as_json(self.under).items() if overrides.get(path) != value}

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants that the claim is about."""
        return (self.better,) if self.worse is None else (self.better, self.worse)

    @property
    def compares(self) -> str:
        """`r16 > r4`, `s2 > s1 by 4`, `s3 ≈ s2`, `on ≥ off`, `on > off in convergence`, `s8 reaches 97.08 %`."""
        if self.accuracy is not None:
            return f"{self.better} reaches {self.accuracy:g} %"
        less = self.metric in LESS_IS_BETTER
        signs = {"better": "<", "not better": "≤"} if less else {"better": ">", "not better": "≥"}
        by = f" by {self.size:g}" if self.size is not None else ""
        metric = f" in {self.metric}" if self.metric != "accuracy" else ""
        return f"{self.better} {signs.get(self.relation, '≈')} {self.worse}{by}{metric}"
