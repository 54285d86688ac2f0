"""The zoo's list of trainings, and where each of them stands. No torch here."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_snn.catalogue import model_card
from robustbench_snn.errors import UsageError
from robustbench_snn.training.recipe import AUGMENTATIONS, Recipe, recipe_from
from robustbench_snn.training.recipe_file import check_names, read_toml, settings

_KEYS = {"model", "recipe", "gpu"}
IMAGES = {"digit-scenes": 10_000}  # in an epoch; elsewhere nearly 50,000
SIDE = 32


@dataclass(frozen=True)
class Entry:
    """One training of the list.

    Attributes:
        model: catalogue name.
        recipe: how it is trained.
        gpu: whether it waits for a GPU.
    """

    model: str
    recipe: Recipe
    gpu: bool = False

    @property
    def folder_name(self) -> str:
        """``RECIPE/MODEL`` below the output folder; another recipe is another folder.

        Settings at their defaults do not count, so that a setting added later moves no folder.
        """
        usual = Recipe().facts()
        own = {k: v for k, v in self.recipe.facts().items() if v != usual[k]}
        text = json.dumps(own, sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:8]}/{self.model}"

    @property
    def architecture(self) -> str:
        """Family and size, which decide what an image costs: ``sdt-small``."""
        return "-".join(self.model.partition(".")[0].split("-")[:2])

    def work(self, epochs: Sequence[int] | None = None) -> float:
        """Images times time steps times pixels times passes of ``epochs`` (from 0; all)."""
        steps = model_card(self.model).time_steps
        early = self.recipe.one_step_epochs(steps)
        attack = self.recipe.adversarial
        passes = 1 + (attack.steps if attack else 0)
        images = IMAGES.get(model_card(self.model).dataset, 50_000)
        total = 0.0
        for epoch in range(self.recipe.epochs) if epochs is None else epochs:
            side = self.recipe.side_at(epoch) or SIDE
            total += images * passes * (1 if epoch < early else steps) * (side / SIDE) ** 2
        return total


def read_list(path: Path) -> list[Entry]:
    """The trainings of a TOML file, in order.

    Raises:
        UsageError: not such a file, an unknown model or setting, or a model named twice.
    """
    found: list[Entry] = []
    for given in read_toml(path).get("entry", []):
        check_names(given, _KEYS, str(path))
        card = model_card(str(given.get("model")))
        table = settings(given.get("recipe", {}), f"{path}, {card.name}")
        table.setdefault("augment", AUGMENTATIONS.get(card.dataset, ()))
        found.append(Entry(card.name, Recipe(**table), bool(given.get("gpu", False))))
    names = [entry.model for entry in found]
    if not found or len(set(names)) < len(names):
        raise UsageError(f"'{path}' must list trainings as [[entry]], each model once.")
    return found


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        entry: which one.
        state: ``shipped``, ``done``, ``running``, ``begun``, ``failed``, ``needs a GPU`` or
            ``waiting``.
        log: one record an epoch.
        card: what the finished training states; empty before.
        message: why it failed.
    """

    entry: Entry
    state: str
    log: Sequence[Mapping[str, str]] = ()
    card: Mapping[str, Any] | None = None
    message: str = ""


def progress(entry: Entry, out: Path, shipped: Path, gpu: bool) -> Progress:
    """Where ``entry`` stands in the folder ``out``, or among the weights shipped already."""
    folder = out / entry.folder_name
    log = read_log(folder / "log.csv")
    for state, path in (("done", folder), ("shipped", shipped)):
        card = read_card(path / f"{entry.model}.json")
        if card is not None and stated(card) == entry.recipe:
            kept = log or read_log(shipped / f"{entry.model}.csv")
            return Progress(entry, state, kept, card)
    if held(folder):
        return Progress(entry, "running", log)
    failure = folder / "failed.txt"
    if failure.is_file():
        return Progress(entry, "failed", log, message=failure.read_text().strip())
    if entry.gpu and not gpu:
        return Progress(entry, "needs a GPU", log)
    return Progress(entry, "begun" if log else "waiting", log)


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a training's log; none without a file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_card(path: Path) -> dict[str, Any] | None:
    """A training card, or None."""
    return json.loads(path.read_text()) if path.is_file() else None


def stated(card: Mapping[str, Any]) -> Recipe | None:
    """The recipe a card states; None where this version cannot read it."""
    try:
        return recipe_from(card["recipe"])
    except (UsageError, KeyError, TypeError):
        return None


def held(folder: Path) -> bool:
    """Whether a process trains in ``folder``: it holds the lock as long as it lives."""
    try:
        with (folder / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def expected_hours(states: Sequence[Progress]) -> list[float | None]:
    """Hours of one process that each training still takes; None where nothing tells.

    The speed of an architecture is that of its own epochs here; before there are any, that of its
    shipped card, corrected by how much faster or slower other architectures were here.
    """
    here: dict[str, float] = {}
    carded: dict[str, float] = {}
    for state in states:
        entry = state.entry
        if state.card is not None and state.card.get("device", "cpu") == "cpu":
            carded[entry.architecture] = float(state.card["seconds"]) / entry.work()
        if state.log and state.state != "shipped":
            seconds = sum(float(row["seconds"]) for row in state.log)
            here[entry.architecture] = seconds / entry.work(range(len(state.log)))
    ratios = sorted(here[name] / carded[name] for name in here.keys() & carded.keys())
    ratio = ratios[len(ratios) // 2] if ratios else 1.0
    found: list[float | None] = []
    for state in states:
        entry, name = state.entry, state.entry.architecture
        speed = here.get(name, carded[name] * ratio if name in carded else None)
        if state.state in ("shipped", "done"):
            found.append(0.0)
        elif speed is None:
            found.append(None)
        else:
            left = range(len(state.log), entry.recipe.epochs)
            found.append(speed * entry.work(left) / 3600)
    return found
