"""Train with a typical tutorial's loop, on the network of the lab.

    python benchmarks/programs/plain_loop.py --epochs 10        # a whole training: val each epoch, test at the end
    python benchmarks/programs/plain_loop.py --steps 20         # the speed of its steps
    python benchmarks/programs/plain_loop.py --evaluate 4000    # the speed of its evaluation

It has: fp32; NCHW; PIL images through torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize; a
DataLoader with two workers; SGD with momentum and weight decay; gradients clipped by value; Lookahead in a few plain
lines; a cosine by epoch; `loss.item()` each step; torch's own number of threads, and the system's memory allocator.
Images are in memory when it begins, as torchvision's CIFAR10 has them. It has no tracking, no figures, no checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from PIL import Image
from stopwatch import Stopwatch, arguments, parts_of, recipe_of, say
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.data.augmentation import MEAN, STD
from cifar_lab.data.splits import ImageSubset, split
from cifar_lab.models.resnet import build_resnet

WORKERS = 2
TO_TENSOR = (transforms.ToTensor(), transforms.Normalize(MEAN, STD))
AUGMENTED = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *TO_TENSOR])
CLEAN = transforms.Compose(TO_TENSOR)


class Pictures(Dataset):
    """Data set that returns images as `torchvision.datasets.CIFAR10` does: array, PIL image, transform."""

    def __init__(self, part: ImageSubset, transform: Callable[[Image.Image], Tensor]) -> None:
        index = part.index.numpy()
        self.images, self.labels = part.images.numpy()[index], part.labels.numpy()[index]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def loader(part: ImageSubset, batch: int, *, train: bool, **more: object) -> DataLoader:
    """Return batches of images (N, 3, 32, 32) and labels."""
    pictures = Pictures(part, AUGMENTED if train else CLEAN)
    return DataLoader(pictures, **{"batch_size": batch, "shuffle": train, "num_workers": WORKERS, **more})


def network(recipe: Recipe, seed: int) -> nn.Module:
    """Return the lab's network with its initial weights, in torch's default layout: NCHW."""
    net = build_resnet(recipe.model, seed=seed)
    net.memory_format = torch.contiguous_format
    return net.to(memory_format=torch.contiguous_format)


class Lookahead:
    """Lookahead: every k steps move the slow weights towards the fast ones, and reset these to them."""

    def __init__(self, parameters: Iterable[Tensor], k: int, alpha: float) -> None:
        self.fast, self.k, self.alpha, self.steps = list(parameters), k, alpha, 0
        self.slow = [p.detach().clone() for p in self.fast]

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        if self.steps % self.k == 0:
            for slow, fast in zip(self.slow, self.fast, strict=True):
                slow.add_(fast - slow, alpha=self.alpha)
                fast.copy_(slow)


def tools(net: nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer, Lookahead]:
    """Return the recipe's optimizer, SGD, and Lookahead around it."""
    optim = recipe.optim
    sgd = torch.optim.SGD(net.parameters(), lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    return sgd, Lookahead(net.parameters(), optim.lookahead.k, optim.lookahead.alpha)


def train_epoch(
    net: nn.Module, batches: DataLoader, optimizer: torch.optim.Optimizer, lookahead: Lookahead, threshold: float,
    watch: Stopwatch | None = None,
) -> float:  # fmt: skip
    """Return the mean loss of an epoch; with a `watch`, it ends as soon as that is done."""
    net.train()
    criterion, running = nn.CrossEntropyLoss(), 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), threshold)
        optimizer.step()
        lookahead.step()
        running += loss.item()
        if watch is not None:
            watch.tick(len(images))
            if watch.is_done:
                break
    return running / len(batches)


@torch.no_grad()
def evaluate(net: nn.Module, batches: DataLoader) -> float:
    """Return the accuracy in %."""
    net.eval()
    right = sum((net(images).argmax(1) == labels).sum().item() for images, labels in batches)
    return 100 * right / len(batches.dataset)


def whole(source: str, width: int, epochs: int, seed: int) -> dict[str, float]:
    """Run a training from its data to its test accuracy, with the evaluations of a cell of the lab."""
    torch.manual_seed(seed)
    recipe = recipe_of(width)
    parts = split(load(source), recipe.data, recipe.train.protocol, torch.device("cpu"))
    batch = recipe.train.batch_size
    train = loader(parts.train, batch, train=True)
    clean, val, test = (loader(part, batch, train=False) for part in (parts.clean_train, parts.watched, parts.test))
    net = network(recipe, seed)
    optimizer, lookahead = tools(net, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    training = 0.0
    for epoch in range(epochs):
        began = time.monotonic()
        loss = train_epoch(net, train, optimizer, lookahead, recipe.optim.clip.threshold)
        schedule.step()
        training += time.monotonic() - began
        print(f"epoch {epoch + 1}: loss {loss:.3f}, train {evaluate(net, clean):.2f} %, val {evaluate(net, val):.2f} %")
    return {"accuracy": evaluate(net, test), "training_seconds": training}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=0, help="a whole training of so many epochs")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.epochs:
        return say(whole(asked.data, asked.width, asked.epochs, asked.seed))
    recipe = recipe_of(asked.width)
    batch, net, watch = recipe.train.batch_size, network(recipe, 0), Stopwatch(asked.warmup, asked.steps)
    part = parts_of(asked.data, recipe, asked.evaluate or (asked.warmup + asked.steps + 1) * batch).train
    if not asked.evaluate:
        train_epoch(net, loader(part, batch, train=True), *tools(net, recipe), recipe.optim.clip.threshold, watch)
        return say(watch.numbers())
    some = DataLoader(Subset(Pictures(part, CLEAN), range(asked.evaluate)), batch_size=batch, num_workers=WORKERS)
    with torch.no_grad():
        net.eval()(torch.zeros(batch, 3, 32, 32))  # the first batch is a warm-up
    began = time.perf_counter()
    evaluate(net, some)
    return say({"images_per_second": asked.evaluate / (time.perf_counter() - began)})


if __name__ == "__main__":
    main()
