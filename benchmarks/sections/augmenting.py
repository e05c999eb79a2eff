"""Price of augmentation: one epoch of images on the processor, without any training."""

from __future__ import annotations

from side_by_side.contender import ALLOCATOR, Asked, Contender, program, take_turns
from side_by_side.results import Section, Table, by_round

PLAIN = "crop and flip"
POLICY = "data.policy.name="
KINDS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "and Cutout": ("data.cutout=16",),
    "and random erasing": ("data.random_erasing.probability=0.5",),
    "and MixUp": ("data.mixup=1.0",),
    "and CutMix": ("data.cutmix=1.0",),
    "and TrivialAugment": (f"{POLICY}trivialaugment",),
    "and AutoAugment": (f"{POLICY}autoaugment",),
    "and RandAugment, 2 operations": (f"{POLICY}randaugment",),
    "and AugMix": (f"{POLICY}augmix",),
}
"""Overrides of the writeup's recipe by what it then does."""
IMAGES = (45_000, 1_280)
"""Images of an epoch of CIFAR-10 with val held out; fewer for a quick look."""
TOLD = """Processor time in which one thread draws for and augments all images of an epoch, 45,000 with val held out, in
batches of 128, normalisation included. The images are noise, and nothing is trained. On a GPU the operations are a part
of the step's CUDA graph, which is not measured here."""


def measure(asked: Asked, rounds: int) -> Section:
    images = asked.size(*IMAGES)
    contenders = [
        Contender(
            name=name, line=program("augment_epoch", "--images", images, *overrides),
            folder=asked.scratch / name, environment=ALLOCATOR,
        )
        for name, overrides in KINDS.items()
    ]  # fmt: skip
    found = take_turns(contenders, rounds)
    drawn = {name: by_round(lambda s: 1000 * s, found.of(name, "draw_seconds")) for name in KINDS}
    return Section(
        name="augmentation",
        title="Augmentation",
        told=TOLD,
        tables=(
            Table("epoch of images", "s", {name: found.of(name, "seconds") for name in KINDS}, against=PLAIN),
            Table("of that, draws", "ms", drawn),
        ),
    )
