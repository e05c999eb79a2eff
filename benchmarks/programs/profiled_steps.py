"""Profile the training step: torch's profiler around steps of the lab's loop, with its events in groups.

The self time of an event is assigned to the nearest enclosing event with a group. Input, clipping and Lookahead are
named by ranges that this program puts around the lab's functions; the optimizer is named by torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from lab_loop import Watch, train, trainer_of
from sized import arguments, recipe_of
from stopwatch import Stopwatch, say
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from cifar_lab.data import augmentation, splits
from cifar_lab.train import lookahead, step

RANGES = {"lab.input": "input", "lab.clip": "clipping", "lab.lookahead": "Lookahead", "Optimizer.": "optimizer"}
"""Groups by prefix of a range's name, which includes all nested events."""
NAMES = (
    ("convolution_backward", "convolutions, backward"),
    ("convolutionbackward", "convolutions, backward"),
    ("conv", "convolutions, forward"),
    ("batch_norm", "batch norm"),
    ("batchnorm", "batch norm"),
    ("linear", "classifier"),
    ("addmm", "classifier"),
    ("aten::mm", "classifier"),
    ("cross_entropy", "loss"),
    ("log_softmax", "loss"),
    ("nll_loss", "loss"),
    ("cast", "casts between bf16 and fp32"),
    ("aten::to", "casts between bf16 and fp32"),
    ("aten::_to_copy", "casts between bf16 and fp32"),
    ("tocopy", "casts between bf16 and fp32"),
)
"""Groups by a part of an operation's lower-case name; the first match counts."""
REST = "elementwise and the rest"


def group_of(event: FunctionEvent) -> str:
    """Return the group of the outermost range around an event, else that of the nearest name that has one."""
    family = [event]
    while family[-1].cpu_parent is not None:
        family.append(family[-1].cpu_parent)
    for each in reversed(family):
        for begin, group in RANGES.items():
            if each.name.startswith(begin):
                return group
    return next((group for each in family for part, group in NAMES if part in each.name.lower()), REST)


def named(module: Any, attribute: str, name: str) -> None:
    """Record calls of a function under `name` in the profile."""
    inner: Callable[..., Any] = getattr(module, attribute)

    def outer(*args: Any, **more: Any) -> Any:
        with record_function(name):
            return inner(*args, **more)

    setattr(module, attribute, outer)


def main() -> None:
    asked = arguments(__doc__).parse_args()
    recipe = recipe_of(asked.width)
    batch = recipe.train.batch_size
    named(augmentation, "augment", "lab.input")
    named(splits.ImageSubset, "take", "lab.input")
    named(step, "clip", "lab.clip")
    named(lookahead.Lookahead, "interpolate", "lab.lookahead")
    trainer, _ = trainer_of(recipe, asked.data, (asked.warmup + asked.steps + 4) * batch)
    train(trainer, Watch(Stopwatch(asked.warmup, 1), batch))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        train(trainer, Watch(Stopwatch(1, asked.steps), batch))
    groups: dict[str, float] = defaultdict(float)
    for event in seen.events() or []:
        groups[group_of(event)] += event.self_cpu_time_total
    steps = asked.steps + 1
    say({name: micro / 1000 / steps for name, micro in groups.items()})


if __name__ == "__main__":
    main()
