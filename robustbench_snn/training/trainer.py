"""The training loop: epochs, what is watched, which epoch is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.errors import UsageError
from robustbench_snn.models import neuron
from robustbench_snn.training.augment import augment
from robustbench_snn.training.graphed import GraphedStep
from robustbench_snn.training.monitor import accuracy_of, collapsed, robustness_of
from robustbench_snn.training.orthogonal import regularise
from robustbench_snn.training.pictures import Pictures, mix, resized, to_unit
from robustbench_snn.training.recipe import Recipe
from robustbench_snn.training.state import read_state, write_log, write_state
from robustbench_snn.training.step import TrainingStep, make_optimizer

Tick = Callable[[int, int, Tensor], None]


class Trainer:
    """Trains one adapter; state lives in ``folder`` so that the same call resumes.

    Args:
        model: an adapter on its device, with the weights training starts from.
        recipe: every number of the training.
        train: training images.
        held_out: images of the training split that are not trained on; watched each epoch, and
            what an epoch is selected by.
        folder: holds ``checkpoint.pt`` and ``log.csv``.
        identity: what besides the recipe decides the outcome: data, code, starting weights.
    """

    def __init__(
        self,
        model: ModelAdapter,
        recipe: Recipe,
        train: Pictures,
        held_out: Pictures,
        folder: Path,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.recipe, self.train, self.held_out = model, recipe, train, held_out
        self.folder, self.identity = folder, dict(identity or {})
        self.device = next(model.parameters()).device
        self.model.unlock()
        self.optimizer = make_optimizer(model.net, recipe, self.device)
        self.step = TrainingStep(model, recipe, self.optimizer)
        self.on_gpu = self.device.type == "cuda"
        self.graphed = GraphedStep(self.step) if self.on_gpu else None
        self.averaged = None
        if recipe.ema:
            decay = get_ema_multi_avg_fn(recipe.ema)
            self.averaged = AveragedModel(model.net, multi_avg_fn=decay, use_buffers=True)
        self.steps = len(train.labels) // recipe.batch_size
        if not self.steps:
            raise UsageError(
                f"batch size {recipe.batch_size} is larger than the {len(train.labels)} training "
                "images: choose a smaller one."
            )
        self.epoch, self.side = 0, 0
        self.log: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.events: list[str] = []
        self.ended = False

    @property
    def checkpoint(self) -> Path:
        """Where the state after the last finished epoch is."""
        return self.folder / "checkpoint.pt"

    def resume(self) -> bool:
        """Load the state of an earlier call; True when there was one.

        Raises:
            UsageError: the state is damaged, or was made by another recipe, data or code.
        """
        state = read_state(self.checkpoint, self.device, self.recipe.facts(), self.identity)
        if state is None:
            return False
        self.restore(state)
        self.epoch, self.log, self.best = state["epoch"], state["log"], state["best"]
        self.events, self.ended = state["events"], state["ended"]
        return True

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take weights, their average, the optimiser's state and the attack's steps."""
        self.model.net.load_state_dict(state["net"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        # The state may come from another kind of device; how steps are taken is this one's.
        for saved, own in zip(
            state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True
        ):
            saved.update({k: own[k] for k in ("lr", "fused", "capturable") if k in own})
        self.optimizer.load_state_dict(state["optimizer"])
        self.step.attack_steps = state["attack_steps"]

    def current(self) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        return {
            "net": self.model.net.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "attack_steps": self.step.attack_steps,
        }

    def save(self) -> None:
        """Write state and log atomically."""
        state = {
            **self.current(),
            "recipe": self.recipe.facts(),
            "identity": self.identity,
            "epoch": self.epoch,
            "log": self.log,
            "best": self.best,
            "events": self.events,
            "ended": self.ended,
        }
        write_state(self.checkpoint, state)
        write_log(self.folder / "log.csv", self.log)

    def fit(self, tick: Tick) -> None:
        """Train the remaining epochs; ``tick(step, steps, loss)`` after every step."""
        neuron.use(self.recipe.neuron)
        final = self.model.card.time_steps
        switch = self.recipe.one_step_epochs(final)
        while self.epoch < self.recipe.epochs and not self.ended:
            self.model.time_steps = 1 if self.epoch < switch else final
            self.model.beta = self.recipe.beta_at(self.epoch)
            started, worked = time.monotonic(), time.process_time()
            row = self.one_epoch(tick)
            row |= self.watch()
            row["seconds"] = round(time.monotonic() - started, 1)
            row["cpu_seconds"] = round(time.process_time() - worked, 1)
            self.log.append(row)
            self.epoch += 1
            if not self.undo_collapse():
                self.keep_best(row, final)
            self.save()
        self.model.time_steps = final
        self.finish()
        self.model.unlock(False)
        neuron.use("eager")

    def one_epoch(self, tick: Tick) -> dict[str, Any]:
        """One pass over the training images; returns what it did as columns of the log."""
        # Order and augmentation depend on (seed, epoch) alone, so a resumed run repeats them.
        rng = np.random.default_rng((self.recipe.seed, self.epoch))
        noise = torch.Generator().manual_seed(self.recipe.seed * 100_003 + self.epoch)
        order = rng.permutation(len(self.train.labels))
        attack, size = self.recipe.adversarial, self.recipe.batch_size
        share = attack.share_at(self.epoch, self.recipe.epochs) if attack else 0.0
        scale = torch.tensor(share, device=self.device)
        self.model.train()
        # Summed on the device: reading either number back in every step would stall a GPU.
        total = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for step in range(self.steps):
            self.set_rate(self.epoch * self.steps + step)
            chosen = order[step * size : (step + 1) * size]
            x, target = self.batch(chosen, rng)
            start = torch.empty(0, device=self.device)
            if attack:
                start = (2 * torch.rand(x.shape, generator=noise) - 1).to(self.device)
            if self.graphed is None:
                loss, logits = self.step(x, target, start, scale)
            else:
                settings = (self.model.time_steps, self.model.beta, self.step.attack_steps)
                loss, logits = self.graphed(settings, x, target, start, scale)
            if self.recipe.parseval:
                regularise(self.model.net, self.recipe.parseval, noise)
            if self.averaged is not None:
                self.averaged.update_parameters(self.model.net)
            total += loss
            correct += (
                logits.argmax(1) == (target.argmax(1) if target.dim() > 1 else target)
            ).sum()
            tick(step + 1, self.steps, total / (step + 1))
        self.model.eval()
        return {
            "epoch": self.epoch + 1,
            "time_steps": self.model.time_steps,
            "side": self.side,
            "lr": round(float(self.optimizer.param_groups[0]["lr"]), 8),
            "eps": round(share * attack.eps, 6) if attack else "",
            "attack_steps": self.step.attack_steps,
            "loss": round(float(total) / self.steps, 5),
            "train_accuracy": round(int(correct) / (self.steps * size), 5),
        }

    def batch(self, chosen: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Augmented images in [0, 1] and their labels, or class probabilities when mixed."""
        pixels = augment(self.train.pixels[chosen], self.recipe.augment, rng)
        y = torch.from_numpy(self.train.labels[chosen]).to(self.device)
        x = resized(to_unit(pixels, self.device), self.recipe.side_at(self.epoch))
        self.side = x.shape[-1]
        if not self.recipe.mixes(self.epoch):
            return x, y
        return mix(x, one_hot(y, self.model.card.num_classes).float(), self.recipe.mixup, rng)

    def watch(self) -> dict[str, Any]:
        """Accuracies on held-out images, as columns of the log."""
        own = self.model.net
        if self.averaged is not None:
            self.model.net = self.averaged.module
        clean = float(accuracy_of(self.model, self.held_out).mean())
        row: dict[str, Any] = {"monitor_accuracy": round(clean, 5)}
        row |= {"monitor_fgsm": "", "monitor_pgd": ""}
        if (attack := self.recipe.adversarial) is not None:
            fgsm, pgd = robustness_of(self.model, self.held_out, attack.eps)
            row |= {"monitor_fgsm": round(fgsm, 5), "monitor_pgd": round(pgd, 5)}
        self.model.net = own
        return row

    def keep_best(self, row: Mapping[str, Any], final: int) -> None:
        """Remember the state after this epoch where it is the best so far.

        While single-step training is watched, the best state under PGD is also what a collapse is
        undone by, so that epochs at T = 1 and smaller eps count until one at the final T does.
        """
        attack = self.recipe.adversarial
        column = {"clean": "monitor_accuracy", "robust": "monitor_pgd"}.get(self.recipe.select)
        if attack is not None and attack.watch and column is None:
            column = "monitor_pgd"
        if column is None:
            return
        whole = attack is None or row["eps"] == round(attack.eps, 6)
        rank = [row["time_steps"] == final and whole, row[column]]
        if self.best is None or rank >= self.best["rank"]:
            self.best = copied({"rank": rank, "epoch": row["epoch"], **self.current()})

    def undo_collapse(self) -> bool:
        """Restore the last good state where single-step training collapsed; whether it did."""
        attack = self.recipe.adversarial
        good = collapsed(self.log) if attack is not None and attack.watch else None
        if attack is None or good is None or self.best is None:
            return False
        now, epoch = self.log[-1], self.best["epoch"]
        then = f"goes on with {attack.fallback_steps} steps" if attack.fallback_steps else "ends"
        self.events.append(
            f"epoch {now['epoch']}: catastrophic overfitting (held-out PGD-10 "
            f"{good['monitor_pgd']:.1%} -> {now['monitor_pgd']:.1%}, FGSM "
            f"{good['monitor_fgsm']:.1%} -> {now['monitor_fgsm']:.1%}); the state after epoch "
            f"{epoch} is restored and training {then}."
        )
        self.restore(copied(self.best))
        self.step.attack_steps = attack.fallback_steps
        self.ended = not attack.fallback_steps
        return True

    def finish(self) -> None:
        """Give the model the weights that are written: selected, averaged, or the last."""
        if self.recipe.select != "last" and self.best is not None:
            self.restore(copied(self.best))
        if self.averaged is not None:
            self.model.net.load_state_dict(self.averaged.module.state_dict())

    @property
    def selected(self) -> int:
        """The epoch whose weights are written, from 1."""
        if self.recipe.select != "last" and self.best is not None:
            return int(self.best["epoch"])
        return self.epoch

    def set_rate(self, step: int) -> None:
        """Linear warm-up, then cosine from ``lr`` to ``lr * final_lr``."""
        total, least = self.steps * self.recipe.epochs, self.recipe.final_lr
        warm = max(1, int(total * self.recipe.warmup))
        if step < warm:
            share = (step + 1) / warm
        else:
            progress = (step - warm) / max(1, total - warm)
            share = least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            if self.on_gpu:
                group["lr"].fill_(self.recipe.lr * share)
            else:
                group["lr"] = self.recipe.lr * share


def copied(value: Any) -> Any:
    """A deep copy of nested containers of tensors, apart from what training goes on to change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value)
    return value
