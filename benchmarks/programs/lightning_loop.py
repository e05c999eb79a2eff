"""PyTorch Lightning as its documentation has it, on the same network and the plain loop's images.

`Trainer` with its defaults (progress bar, logger, checkpoints), clipping by its own options; a DataLoader with two
workers that persist, which it recommends; SGD, a cosine by epoch, and the plain loop's Lookahead after each batch.
`--precision bf16-mixed` is what its page on speed advises where the hardware has it; `32-true` is the default.
"""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
from plain_loop import loader, network, tools
from stopwatch import Stopwatch, arguments, parts_of, recipe_of, say

from cifar_lab.config.recipe import Recipe


class Classifier(L.LightningModule):
    """The network with its loss and its optimizer."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe, self.net = recipe, network(recipe, 0)
        self.sgd, self.lookahead = tools(self.net, recipe)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> object:
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.sgd, T_max=self.recipe.train.epochs)
        return {"optimizer": self.sgd, "lr_scheduler": cosine}

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:  # noqa: ARG002
        self.lookahead.step()


class Watch(L.Callback):
    """Ticks after each batch, and ends the training when the stopwatch is done."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # noqa: ARG002
        self.watch.tick(len(batch[0]))
        trainer.should_stop = self.watch.is_done


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--precision", default="32-true", help="32-true, or bf16-mixed")
    asked = parser.parse_args()
    L.seed_everything(0)
    recipe, watch = recipe_of(asked.width), Stopwatch(asked.warmup, asked.steps)
    batch = recipe.train.batch_size
    part = parts_of(asked.data, recipe, (asked.warmup + asked.steps + 1) * batch).train
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=recipe.train.epochs, precision=asked.precision,
        gradient_clip_val=recipe.optim.clip.threshold, gradient_clip_algorithm="value", callbacks=[Watch(watch)],
    )  # fmt: skip
    trainer.fit(Classifier(recipe), loader(part, batch, train=True, persistent_workers=True))
    say(watch.numbers())


if __name__ == "__main__":
    main()
