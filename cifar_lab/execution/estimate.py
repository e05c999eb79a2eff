"""Estimate the training time of cells on this machine by timing a few steps of one or two networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cifar_lab.config.execution import Execution
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.execution import step_timing
from cifar_lab.execution.plan import Plan, PlannedCell
from cifar_lab.execution.settings import MOST_CELLS_PER_GPU, cells_per_gpu
from cifar_lab.execution.step_timing import StepTiming, TimingError, TimingRequest
from cifar_lab.models.cost import network_cost

FORWARD_SHARE = 1 / 3
"""Cost of evaluating an image relative to training on it: one forward pass instead of a forward and two backward."""
START_SECONDS = 4.0
"""Seconds for a worker's start, its data, and its artifacts."""
TIMED_MACS = 3_000_000_000
"""Approximate multiply-accumulates in the forward pass of a timed step on a CPU: at most about a second."""
ASSUMED_RATE, ASSUMED_FLOOR = 6e-14, 5e-3
"""Assumed speed of a GPU on which no step could be timed: 100 TFLOP/s, and 5 ms for the shortest step."""


ASSUMED_CPU_RATE = 6e-11
"""Assumed speed of a CPU on which no step could be timed: 100 GFLOP/s."""
ROUGH = "warning: training steps could not be timed ({reason}): the estimates are rough"


@dataclass(frozen=True, kw_only=True)
class TrainingSpeed:
    """Speed of training on this machine."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Training time in seconds per multiply-accumulate of a forward pass, by the recipe's precision."""
    floor: float = 0.0
    """Duration of the shortest step in seconds: on CUDA, small networks are limited by kernel launches."""
    timed: tuple[StepTiming, ...] = ()
    """Measurements on CUDA of the largest network in each precision."""


def estimate(plan: Plan, pace: TrainingSpeed, *, done: bool = False) -> dict[str, float]:
    """Return the seconds of one worker alone for each unfinished cell, or for all with `done`, by fingerprint.

    A precision that was not measured gets the slowest measured rate. Expect an error of a factor 1.5 either way: small
    networks use a processor less efficiently than large ones.
    """
    slowest = max(pace.rates.values(), default=0.0)
    return {
        cell.fingerprint: START_SECONDS
        + _seconds(cell, plan, pace.rates.get(cell.recipe.train.precision, slowest), pace.floor)
        for cell in plan.cells
        if done or not cell.is_done
    }


def _seconds(cell: PlannedCell, plan: Plan, rate: float, floor: float) -> float:
    """Return the seconds of training and evaluation; no pass of a step takes less than `floor`."""
    recipe, images = cell.recipe, trained_images(cell, plan)
    of_an_image = rate * cell.cost.work
    steps = recipe.steps_per_epoch(images)
    epochs = recipe.train.epochs * recipe.passes * max(steps * floor, images * of_an_image)
    if recipe.teachers:  # forward passes alone
        taught = max(len(recipe.teachers) * steps * floor, images * rate * cell.teacher_macs)
        epochs += recipe.train.epochs * FORWARD_SHARE * taught
    again = images if recipe.train.swa.enabled else 0  # for batch norm's statistics under the mean of the weights
    return epochs + FORWARD_SHARE * (_evaluated(cell, plan) + again) * of_an_image


def measure(
    plan: Plan,
    execution: Execution,
    say: Callable[[str], None] = lambda _: None,
    *,
    place: str = "",
    done: bool = False,
) -> TrainingSpeed:
    """Measure the pace of the cells to be trained by timing one network in each of their precisions.

    On the CPU it is the network of median cost, with `execution`'s threads. On CUDA it is the one with the most work in
    a step, and the one with the least for the shortest step. The steps run in a separate process. If that fails, `say`
    is called, and the rates of the other precisions, or typical rates of such devices, are used.

    `place`: the GPU if there are several, `cuda:1`. `done`: also time cells that are done, to predict similar ones.

    Raises:
        UsageError: on the CPU even the network of least cost ran out of memory.
    """
    found: dict[str, list[Recipe]] = {}
    for cell in sorted(plan.cells, key=lambda cell: cell.cost.work):
        if done or not cell.is_done:
            found.setdefault(cell.recipe.train.precision, []).append(cell.recipe)
    if execution.device.startswith("cuda"):
        return _on_cuda(found, execution, say, place, plan.dataset.shape)
    rates = {
        precision: _on_the_cpu(recipes, execution, say, plan.dataset.shape) for precision, recipes in found.items()
    }
    known = {precision: rate for precision, rate in rates.items() if rate is not None}
    return TrainingSpeed(rates=known or dict.fromkeys(found, ASSUMED_CPU_RATE))


def _on_the_cpu(
    recipes: list[Recipe], execution: Execution, say: Callable[[str], None], images: ImageShape
) -> float | None:
    """Return the rate of the median of `recipes`, sorted by cost, or of the first; None if no step could be timed."""
    tries = [recipes[len(recipes) // 2], recipes[0]]
    for recipe in dict.fromkeys(tries):
        try:
            return seconds_per_image(recipe, execution, images) / network_cost(recipe.model, images).work
        except TimingError as error:
            last = error
            if not error.out_of_memory:
                break
    if last.out_of_memory:
        raise UsageError(f"a few steps were to be timed, but: {last}") from last
    say(ROUGH.format(reason=last))
    return None


def _on_cuda(
    found: Mapping[str, list[Recipe]],
    execution: Execution,
    say: Callable[[str], None],
    place: str,
    images: ImageShape,
) -> TrainingSpeed:
    if not found:
        return TrainingSpeed()
    work = partial(_work, images=images)
    most = {precision: max(recipes, key=work) for precision, recipes in found.items()}
    least = min((recipe for recipes in found.values() for recipe in recipes), key=work)
    ask = partial(TimingRequest, execution=execution, place=place, images=images)
    questions = [ask(recipe=recipe, share=True) for recipe in most.values()]
    if least not in most.values():
        questions.append(ask(recipe=least))
    answers = step_timing.measure_steps(questions)
    for reason in dict.fromkeys(str(answer) for answer in answers if isinstance(answer, TimingError)):
        say(ROUGH.format(reason=reason))
    known = {q.recipe: answer for q, answer in zip(questions, answers, strict=True) if isinstance(answer, StepTiming)}
    rates = {p: known[recipe].step / work(recipe) for p, recipe in most.items() if recipe in known}
    if not rates and least in known:
        rates = {least.train.precision: known[least].step / work(least)}
    if not rates:
        return TrainingSpeed(rates=dict.fromkeys(found, ASSUMED_RATE), floor=ASSUMED_FLOOR)
    timed = tuple(known[recipe] for recipe in most.values() if recipe in known)
    floor = known[least].step / least.passes if least in known else ASSUMED_FLOOR
    return TrainingSpeed(rates=rates, floor=floor, timed=timed)


def share(pace: TrainingSpeed, cores: int, data: int) -> tuple[int, str]:
    """Return how many cells should share one GPU, and the reason in one line.

    Args:
        pace: measured on CUDA; the largest timed network decides.
        cores: processor cores for the cells of one GPU.
        data: bytes of the images; each cell keeps its own copy on the GPU.
    """
    if not pace.timed or not all(timed.busy for timed in pace.timed):
        return 1, "1 cell a GPU: how busy a step keeps it could not be measured"
    busy = max(timed.busy or 0.0 for timed in pace.timed)
    reserved, memory = max(timed.reserved for timed in pace.timed) + data, min(timed.memory for timed in pace.timed)
    count = cells_per_gpu(busy, reserved, memory, cores)
    why = (
        f"a step keeps it busy for {100 * min(busy, 1.0):.0f} % of its time, a cell takes {reserved / 2**30:.1f} of "
        f"{memory / 2**30:.0f} GiB, and there are {cores} cores for each GPU; {MOST_CELLS_PER_GPU} at most"
    )
    return count, f"{count} {'cell' if count == 1 else 'cells'} a GPU: {why}"


def seconds_per_image(recipe: Recipe, execution: Execution, images: ImageShape = CIFAR10_SHAPE) -> float:
    """Return the seconds of a forward and backward pass per image; small batches keep it short on a CPU."""
    batch = recipe.train.batch_size
    if execution.device == "cpu":
        batch = min(batch, 32, max(4, TIMED_MACS // network_cost(recipe.model, images).work))
    return step_timing.glance(recipe, execution, batch, images).step / batch


def _work(recipe: Recipe, images: ImageShape) -> int:
    """Return the multiply-accumulates of all forward passes of one step (`Recipe.passes`)."""
    return network_cost(recipe.model, images).work * recipe.train.batch_size * recipe.passes


def trained_images(cell: PlannedCell, plan: Plan) -> int:
    """Estimate the number of images in an epoch of `cell`; a split takes whole images of each class."""
    recipe, images = cell.recipe, len(plan.dataset.train_labels)
    held_out = recipe.data.val_fraction if recipe.train.protocol == "holdout" else 0.0
    return max(1, round(images * (1 - held_out) * recipe.data.train_fraction))


def _evaluated(cell: PlannedCell, plan: Plan) -> float:
    """Return how many images a cell evaluates, in all epochs and at its end."""
    recipe, images, tested = cell.recipe, len(plan.dataset.train_labels), len(plan.dataset.test_labels)
    held_out = images * recipe.data.val_fraction
    clean = min(held_out, (images - held_out) * recipe.data.train_fraction)
    each = clean + (held_out if recipe.train.protocol == "holdout" else tested)
    return recipe.train.epochs * each + tested
