"""Works through a list of trainings, each in a process of its own, from a checkout of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_snn.errors import UsageError
from robustbench_snn.training.zoo import Entry, Progress, held, progress, read_card

POLL = 0.5  # seconds between looks at the running trainings
GRACE = 60.0  # seconds a training has to end when it is asked to


def own_checkout(root: Path, folder: Path) -> Path:
    """A worktree of ``root``'s HEAD in ``folder``, so that work on the tree disturbs no training.

    An existing one is moved to HEAD.

    Raises:
        UsageError: ``root`` is no git checkout.
    """

    def git(where: Path, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True)
        if done.returncode:
            raise UsageError(
                f"no checkout of its own could be made in '{folder}' "
                f"({done.stderr.strip().splitlines()[-1:]}): use --here to train this tree's code."
            )
        return done.stdout.strip()

    commit = git(root, "rev-parse", "HEAD")
    git(root, "worktree", "prune")
    if (folder / ".git").exists():
        git(folder, "checkout", "--quiet", "--detach", commit)
    else:
        git(root, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    return folder


@dataclass
class Queue:
    """The driver of a list.

    Attributes:
        entries: in order.
        out: folder of the trainings.
        shipped: folder of the shipped weights.
        code: the checkout whose code trains.
        list_file: where the recipes are read.
        data_dirs: folder of each data set.
        jobs: trainings at once; threads: of each.
        nice: how much lower than this process they rank.
        gpu: whether entries for a GPU are started.
        device: of the trainings; note: for the cards of data from ``data_dirs``.
        images: of the training split that are used; None for all.
        say: takes each line of the report.
    """

    entries: Sequence[Entry]
    out: Path
    shipped: Path
    code: Path
    list_file: Path
    data_dirs: Mapping[str, str]
    jobs: int = 1
    threads: int = 1
    nice: int = 10
    gpu: bool = False
    device: str = "auto"
    note: str = ""
    images: int | None = None
    say: Callable[[str], None] = print
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self) -> int:
        """Train until nothing can be started; returns how many failed."""
        for entry in self.entries:
            (self.out / entry.folder_name / "failed.txt").unlink(missing_ok=True)
        try:
            while True:
                self.reap()
                while self.busy() < self.jobs and (ready := self.next_entry()):
                    self.start(ready)
                if not self.busy():
                    break
                time.sleep(POLL)
        except BaseException:
            self.stop()
            raise
        return sum(self.state(entry).state == "failed" for entry in self.entries)

    def busy(self) -> int:
        """Trainings in progress, those of a driver that was killed among them."""
        return sum(
            entry.model in self.running or held(self.out / entry.folder_name)
            for entry in self.entries
        )

    def state(self, entry: Entry) -> Progress:
        """Where an entry stands."""
        return progress(entry, self.out, self.shipped, self.gpu)

    def next_entry(self) -> Entry | None:
        """The first entry that can be started now."""
        for entry in self.entries:
            state = self.state(entry).state
            free = state in ("begun", "waiting") and entry.model not in self.running
            if free and self.weights_ready(entry):
                return entry
        return None

    def weights_ready(self, entry: Entry) -> bool:
        """Whether the weights an entry starts from exist; their training may come first."""
        source = self.start_of(entry)
        return source is None or self.state(source).state in ("done", "shipped")

    def start_of(self, entry: Entry) -> Entry | None:
        """The entry of the list whose weights this one starts from."""
        return next((e for e in self.entries if e.model == entry.recipe.start), None)

    def command(self, entry: Entry) -> list[str]:
        """The training's command line."""
        from robustbench_snn.catalogue import model_card

        folder = self.out / entry.folder_name
        words = [sys.executable, "-m", "robustbench_snn.train", "--model", entry.model]
        listed = self.list_file
        if listed.is_relative_to(self.code):
            listed = listed.relative_to(self.code)  # as the card should state it
        words += ["--recipe", str(listed), "--out", str(folder.parent)]
        words += ["--threads", str(self.threads), "--device", self.device]
        words += ["--n", str(self.images)] if self.images else []
        data = self.data_dirs.get(model_card(entry.model).dataset, self.data_dirs.get(""))
        if data and model_card(entry.model).dataset != "digit-scenes":
            words += ["--data-dir", data]
            words += ["--note", self.note] if self.note else []
        source = self.start_of(entry)
        if source is not None:
            weights = self.out / source.folder_name / f"{source.model}.safetensors"
            if weights.is_file():
                words += ["--start-file", str(weights)]
        return words

    def start(self, entry: Entry) -> None:
        """Start a training at low priority; its output goes to ``output.txt``."""
        folder = self.out / entry.folder_name
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(self.code)}
        with (folder / "output.txt").open("ab") as output:
            self.running[entry.model] = subprocess.Popen(
                self.command(entry),
                cwd=self.code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.nice(self.nice) and None,
            )
        self.say(f"started {entry.model}: {folder}")

    def reap(self) -> None:
        """Note which trainings have ended and how."""
        by_name = {entry.model: entry for entry in self.entries}
        for name, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[name]
            folder = self.out / by_name[name].folder_name
            if code and not held(folder):
                lines = (folder / "output.txt").read_text(errors="replace").strip().splitlines()
                message = lines[-1] if lines else f"exit code {code}"
                (folder / "failed.txt").write_text(message + "\n")
            self.say(f"{self.state(by_name[name]).state}: {name}")

    def stop(self) -> None:
        """Interrupt the running trainings; each has its state after the last full epoch."""
        for process in self.running.values():
            process.send_signal(signal.SIGINT)
        for process in self.running.values():
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


def ship(states: Sequence[Progress], out: Path, shipped: Path) -> list[str]:
    """Copy weights, cards and logs of finished trainings into the package; returns their names."""
    found = []
    for state in states:
        if state.state != "done":
            continue
        name, folder = state.entry.model, out / state.entry.folder_name
        known = read_card(shipped / f"{name}.json")
        if known is not None and known["sha256"] == (state.card or {}).get("sha256"):
            continue
        # The card last: it is what makes the weights known.
        for source, target in (
            (f"{name}.safetensors", f"{name}.safetensors"),
            ("log.csv", f"{name}.csv"),
            (f"{name}.json", f"{name}.json"),
        ):
            temporary = shipped / f"{target}.tmp"
            shutil.copyfile(folder / source, temporary)
            temporary.replace(shipped / target)
        found.append(name)
    return found
