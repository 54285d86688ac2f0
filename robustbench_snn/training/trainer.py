"""The training loop: epochs, resumable state, and the measured outcome."""

from __future__ import annotations

import csv
import math
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks.losses import answers
from robustbench_snn.errors import UsageError
from robustbench_snn.models import neuron
from robustbench_snn.training.augment import augment
from robustbench_snn.training.graphed import GraphedStep
from robustbench_snn.training.recipe import Recipe

EVAL_BATCH = 100
LOG_COLUMNS = (
    "epoch",
    "time_steps",
    "side",
    "lr",
    "loss",
    "train_accuracy",
    "monitor_accuracy",
    "seconds",
    "cpu_seconds",
)


@dataclass(frozen=True)
class Pictures:
    """Images uint8 [N, C, H, W] and labels int64 [N] of one split."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Trainer:
    """Trains one adapter; state lives in ``folder`` so that the same call resumes.

    Args:
        model: an adapter on its device.
        recipe: every number of the training.
        train, monitor: training images, and images watched (never selected on) each epoch.
        folder: holds ``checkpoint.pt`` and ``log.csv``.
    """

    def __init__(
        self, model: ModelAdapter, recipe: Recipe, train: Pictures, monitor: Pictures, folder: Path
    ) -> None:
        self.model, self.recipe, self.train, self.monitor = model, recipe, train, monitor
        self.folder = folder
        self.device = next(model.parameters()).device
        self.model.unlock()
        decay = [p for p in model.net.parameters() if p.dim() > 1]
        plain = [p for p in model.net.parameters() if p.dim() <= 1]
        groups = [
            {"params": decay, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.on_gpu = self.device.type == "cuda"
        # Graphs keep the address of the rate, so that it has to be a tensor there.
        lr = torch.tensor(recipe.lr, device=self.device) if self.on_gpu else recipe.lr
        self.optimizer = torch.optim.AdamW(groups, lr=lr, fused=self.on_gpu, capturable=self.on_gpu)
        self.graphed = GraphedStep(self.step) if self.on_gpu else None
        self.steps = len(train.labels) // recipe.batch_size
        if not self.steps:
            raise UsageError(
                f"batch size {recipe.batch_size} is larger than the {len(train.labels)} training "
                "images: choose a smaller one."
            )
        self.epoch, self.side = 0, 0
        self.log: list[dict[str, Any]] = []

    @property
    def checkpoint(self) -> Path:
        """Where the state after the last finished epoch is."""
        return self.folder / "checkpoint.pt"

    def resume(self) -> bool:
        """Load the state of an earlier call; True when there was one.

        Raises:
            UsageError: the state is damaged, or was made by another recipe.
        """
        if not self.checkpoint.is_file():
            return False
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise UsageError(
                f"'{self.checkpoint}' is no readable training state: choose another --out, or "
                "delete it to start anew."
            ) from error
        if state["recipe"] != self.recipe.facts():
            changed = sorted(
                k for k, v in self.recipe.facts().items() if state["recipe"].get(k) != v
            )
            raise UsageError(
                f"'{self.folder}' holds a training with other settings ({', '.join(changed)}): "
                "choose another --out, or delete it to start anew."
            )
        self.model.net.load_state_dict(state["net"])
        # The state may come from another kind of device; how steps are taken is this one's.
        for saved, own in zip(
            state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True
        ):
            saved.update({name: own[name] for name in ("lr", "fused", "capturable")})
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.log = state["epoch"], state["log"]
        return True

    def save(self) -> None:
        """Write the state atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": self.recipe.facts(),
            "net": self.model.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "log": self.log,
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)
        with (self.folder / "log.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS)
            writer.writeheader()
            writer.writerows(self.log)

    def fit(self, tick: Callable[[int, int, Tensor], None]) -> None:
        """Train the remaining epochs; ``tick(step, steps, loss)`` after every step."""
        neuron.use(self.recipe.neuron)
        final = self.model.card.time_steps
        switch = self.recipe.one_step_epochs(final)
        while self.epoch < self.recipe.epochs:
            self.model.time_steps = 1 if self.epoch < switch else final
            started, worked = time.monotonic(), time.process_time()
            loss, accuracy = self.one_epoch(tick)
            watched = accuracy_of(self.model, self.monitor)
            self.epoch += 1
            row = (
                self.epoch,
                self.model.time_steps,
                self.side,
                round(float(self.optimizer.param_groups[0]["lr"]), 8),
                round(loss, 5),
                round(accuracy, 5),
                round(float(np.mean(watched)), 5),
                round(time.monotonic() - started, 1),
                round(time.process_time() - worked, 1),
            )
            self.log.append(dict(zip(LOG_COLUMNS, row, strict=True)))
            self.save()
        self.model.time_steps = final
        self.model.unlock(False)
        neuron.use("eager")

    def one_epoch(self, tick: Callable[[int, int, Tensor], None]) -> tuple[float, float]:
        """One pass over the training images: (mean loss, accuracy on augmented images)."""
        # Order and augmentation depend on (seed, epoch) alone, so a resumed run repeats them.
        rng = np.random.default_rng((self.recipe.seed, self.epoch))
        order = rng.permutation(len(self.train.labels))
        self.model.train()
        # Summed on the device: reading either number back in every step would stall a GPU.
        total = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        size = self.recipe.batch_size
        for step in range(self.steps):
            self.set_rate(self.epoch * self.steps + step)
            chosen = order[step * size : (step + 1) * size]
            pixels = augment(self.train.pixels[chosen], self.recipe.augment, rng)
            y = torch.from_numpy(self.train.labels[chosen]).to(self.device)
            x = resized(to_unit(pixels, self.device), self.recipe.side_at(self.epoch))
            self.side = x.shape[-1]
            if self.graphed is None:
                loss, logits = self.step(x, y)
            else:
                loss, logits = self.graphed(self.model.time_steps, x, y)
            total += loss
            correct += (logits.argmax(1) == y).sum()
            tick(step + 1, self.steps, total / (step + 1))
        self.model.eval()
        return float(total) / self.steps, int(correct) / (self.steps * size)

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One optimiser step: (loss, logits of the last term), both detached."""
        mixed = self.recipe.precision == "bfloat16"
        smoothing = self.recipe.label_smoothing
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=mixed, cache_enabled=not self.on_gpu
        )
        with autocast:
            terms = self.model.training_logits(x)
        loss = torch.stack(
            [
                weight * nn.functional.cross_entropy(z.float(), y, label_smoothing=smoothing)
                for weight, z in terms
            ]
        ).sum()
        self.optimizer.zero_grad(set_to_none=True)
        # In this thread: the compile limit of others is the default one, and too low.
        with torch.autograd.set_multithreading_enabled(False):
            loss.backward()
        self.optimizer.step()
        return loss.detach(), terms[-1][1].detach()

    def set_rate(self, step: int) -> None:
        """Linear warm-up, then cosine from ``lr`` to ``lr / 100``."""
        total = self.steps * self.recipe.epochs
        warm = max(1, int(total * self.recipe.warmup))
        if step < warm:
            share = (step + 1) / warm
        else:
            progress = (step - warm) / max(1, total - warm)
            share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            if self.on_gpu:
                group["lr"].fill_(self.recipe.lr * share)
            else:
                group["lr"] = self.recipe.lr * share


def to_unit(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] -> float32 in [0, 1] on ``device``."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float().div_(255)


def resized(x: Tensor, side: int | None) -> Tensor:
    """Square images of ``side`` pixels (antialiased bilinear); ``x`` itself without a side."""
    if side is None or side == x.shape[-1]:
        return x
    size = (side, side)
    return nn.functional.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)


def accuracy_of(model: ModelAdapter, pictures: Pictures) -> NDArray[np.bool_]:
    """Which images are classified correctly, bool [N], in float32 and eval mode."""
    device = next(model.parameters()).device
    correct: list[Sequence[bool]] = []
    training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(pictures.labels), EVAL_BATCH):
            part = slice(start, start + EVAL_BATCH)
            logits = model(to_unit(pictures.pixels[part], device))
            correct.append(answers(logits).cpu().numpy() == pictures.labels[part])
    model.train(training)
    return np.concatenate(correct)
