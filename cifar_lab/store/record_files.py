"""The JSON files of a cell's record as types: description, result, failure and owner.

Every field that some version did not write has a default; records of all versions are read.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_serializer, model_validator

from cifar_lab.config.execution import Execution
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import NUMERICS, Recipe
from cifar_lab.store.stored_json import Flag, JsonObject, Number, StoredJson, Text, Time, Whole


class DataIdentity(StoredJson):
    """Identity of a data set."""

    name: Text
    kind: Text
    hash: Text


class DataSource(DataIdentity):
    """Data set with the source from which it was loaded."""

    source: Text
    """Source as typed: `synthetic`, `cifar10`, or a path."""


class StoredTraining(StoredJson):
    """Section `train` of a stored recipe, as far as every version has it."""

    protocol: Text
    precision: Text = "auto"
    epochs: Whole | None = None
    """Number of epochs; None in a record that does not name it."""


class StoredRecipe(StoredJson):
    """Recipe as some version wrote it: complete in `tree`, which this version need not be able to resolve."""

    tree: dict[str, JsonValue] = Field(repr=False)
    train: StoredTraining
    init_from: Text | None = None
    """Fingerprint of the cell whose last weights the training starts from."""

    @model_validator(mode="before")
    @classmethod
    def _keep_tree(cls, value: object) -> object:
        return {**{name: value[name] for name in ("train", "init_from") if name in value}, "tree": value} if isinstance(
            value, dict
        ) else value  # fmt: skip

    @model_serializer
    def _written(self) -> JsonObject:
        return self.tree

    @classmethod
    def of(cls, recipe: Recipe) -> StoredRecipe:
        """Return `recipe` as it is stored."""
        return cls.model_validate(recipe.model_dump(mode="json"))

    def resolve(self) -> Recipe:
        """Return the recipe as this version reads it.

        Raises:
            ValidationError: this version cannot read it.
        """
        return Recipe.model_validate_json(json.dumps(self.tree))


class StoredExecution(StoredJson):
    """Execution settings as some version wrote them; the attributes have the defaults of this version."""

    device: Text
    threads: Whole
    precision: Text
    compile: Flag = False
    graph: Flag = False
    gpu: Text | None = None

    @classmethod
    def of(cls, execution: Execution) -> StoredExecution:
        """Return `execution` as it is stored."""
        return cls(**execution.as_dict())

    @property
    def settings(self) -> Execution:
        """Return the settings to go on with."""
        return Execution(**{name: getattr(self, name) for name in type(self).model_fields})

    def with_defaults(self) -> JsonObject:
        """Return the settings as JSON, with the defaults of the fields that their version did not write."""
        return self.model_dump(mode="json")


MaybeExecution = Annotated[StoredExecution | None, BeforeValidator(lambda tree: None if tree == {} else tree)]
"""Execution of what may have none; an empty object is one that some versions wrote in its place."""


class Hardware(StoredJson):
    """Hardware of a machine."""

    platform: Text | None = None
    processor: Text | None = None
    cores: Whole | None = None
    memory_gib: Number | None = None
    gpus: tuple[Text, ...] = ()
    """Models of its GPUs."""
    gpu_memory_gib: tuple[Number, ...] = ()
    cpu_capability: Text | None = None


class Provenance(StoredJson):
    """Commit of the code, versions and hardware."""

    git_commit: Text | None = None
    """Commit of the code; None outside a checkout."""
    git_dirty: Flag | None = None
    versions: dict[str, Text | None] = Field(default_factory=dict)
    """Version by package; None for one that is not installed."""
    hardware: Hardware = Hardware()


class CellFile(StoredJson):
    """Content of `cell.json`: the description of a cell, written when its training begins."""

    fingerprint: Text | None = None
    seed: Whole
    recipe: StoredRecipe
    data: DataIdentity
    classes: tuple[Text, ...] = ()
    side: Whole | None = None
    """Side of the images in pixels; None in records of earlier versions, whose images are all 32×32."""
    parameters: Whole | None = None
    macs: Whole | None = None
    numerics: Whole | None = None
    execution: StoredExecution
    provenance: Provenance = Provenance()

    @property
    def shape(self) -> ImageShape:
        """Number of classes and side of the images."""
        return ImageShape(classes=len(self.classes) or CIFAR10_SHAPE.classes, side=self.side or CIFAR10_SHAPE.side)

    def changed_code(self) -> str:
        """Return the names of the users' code in the recipe if some of it has changed since the training; else ''.

        Raises:
            RecipeError: some of it is not there.
            ValidationError: this version cannot read the recipe.
        """
        recipe = self.recipe.resolve()
        names = sorted({name for _, _, name, _ in recipe.extensions()})
        if not names or self.fingerprint is None or self.numerics not in {None, NUMERICS}:
            return ""
        is_same = recipe.fingerprint(seed=self.seed, data_hash=self.data.hash) == self.fingerprint
        return "" if is_same else ", ".join(names)

    def executed_as(self, execution: Execution) -> CellFile:
        """Return the description with another execution."""
        return self.model_copy(update={"execution": StoredExecution.of(execution)})


class ResultFile(StoredJson):
    """Content of `result.json`: the outcome of a cell, written last."""

    fingerprint: Text | None = None
    status: Literal["finished", "diverged"]
    epoch: Whole
    step: Whole | None
    """Step of the epoch at which a training diverged."""
    time: Time
    metrics: dict[str, Number]
    """Finite numbers by name; none is required, since a diverged training has no accuracy."""
    files: dict[str, Text] = Field(default_factory=dict)
    """SHA-256 by name of the files beside the result; empty in results of earlier versions."""

    @property
    def is_finished(self) -> bool:
        """Tell whether the training came to its end without diverging."""
        return self.status == "finished"


class FailureFile(StoredJson):
    """Content of `failure.json`: the failure of the last attempt."""

    error: Text
    """Error in one line."""
    trace: Text
    time: Time = 0
    """Time of the failure; 0 in failures of the first version."""
    out_of_memory: Flag = False


class CrossedVariants(StoredJson):
    """Variants of a 2 × 2 study."""

    factors: tuple[Text, Text]
    variants: tuple[Text, Text, Text, Text]
    """Variants in which neither factor is changed, the first, the second, and both."""


class OwnerFile(StoredJson):
    """Content of `owner.json`: the process that trains a cell."""

    host: Text
    machine: Text = ""
    """Name of the running kernel; empty in records of earlier versions."""
    pid: Whole
    beat: Whole | None = None
    """Number of the heartbeat; None in records of earlier versions."""
    time: Time
    fence: Whole = 0
    """Number of the owner: one that takes the cell from another has a greater number than that one."""
    task: Text = ""
    """Task of a cluster's queue that it runs in, `17_3`; empty outside of one."""
    seconds: Number | None = None
    """Seconds of silence after which it counts as dead, if its lease on an object store says so."""

    @property
    def sign(self) -> tuple[str, str, int, int | None, int]:
        """Return what differs between two heartbeats."""
        return (self.host, self.machine, self.pid, self.beat, self.time)
