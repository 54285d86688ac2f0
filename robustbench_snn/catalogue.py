"""Every model known by name: its card and the adapter class that builds it. No torch here."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import logging
import multiprocessing
import re
import sys
import traceback
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from robustbench_snn.card import Checkpoint, ModelCard, Preprocess, Reported
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import Registry, import_target
from robustbench_snn.source_code import foreign_source_sha256, note_brought_in

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAPERS = {
    "qkformer": "QKFormer, arXiv 2403.16552",
    "sdt": "Spike-driven Transformer, arXiv 2307.01694",
    "spiliformer": "SpiLiFormer, arXiv 2503.15986",
}


@dataclass(frozen=True)
class Entry:
    """A registered model: its card and ``"module:class"`` of its adapter (or the class)."""

    card: ModelCard
    adapter: Any


@dataclass(frozen=True)
class Published:
    """A checkpoint of SpiLiFormer's authors: file in their repository and stated accuracy."""

    file: str
    accuracy: float

    def facts(self) -> dict[str, Any]:
        """What the card of a model with this checkpoint says."""
        repository = "KirinZheng/SpiLiFormer"
        return {
            "checkpoint": Checkpoint(f"hub:{repository}/{self.file}", megabytes=830),
            "reported": Reported(self.accuracy, 50_000, f"README of {repository}"),
            "parameters": 69_103_816,
            "note": f"weights of the paper's authors, fetched from the Hub's {repository}; their "
            "accuracy was measured with the batch leak (ssa_proj_lif=official)",
        }


MODELS: Registry[Entry] = Registry("model")


def model_card(name: str) -> ModelCard:
    """The card of a registered model; raises UsageError with the closest names."""
    return MODELS.get(name).card


def is_foreign(name: str) -> bool:
    """Whether a registered model is defined outside this package."""
    adapter = MODELS.get(name).adapter
    home = adapter if isinstance(adapter, str) else adapter.__module__
    return str(home).partition(".")[0] != __name__.partition(".")[0]


def encodes_at_random(name: str) -> bool:
    """Whether the adapter class of a registered model says that its encoder draws at random."""
    adapter = MODELS.get(name).adapter
    kind = import_target(adapter) if isinstance(adapter, str) else adapter
    return bool(getattr(kind, "stochastic", False))


def register(card: ModelCard, adapter: Any) -> None:
    """Make ``card.name`` known; a shipped checkpoint of that name becomes its default weights.

    Raises:
        UsageError: the name is taken, or cannot be the name of a folder.
    """
    MODELS.add(card.name, Entry(with_shipped_weights(card), adapter))


def with_shipped_weights(card: ModelCard) -> ModelCard:
    """``card`` with the checkpoint and clean accuracy that its training card states, if shipped."""
    folder = files("robustbench_snn") / "checkpoints"
    training_card = folder / f"{card.name}.json"
    if not training_card.is_file():
        return card
    facts = json.loads(training_card.read_text())
    clean = facts["clean"]
    return replace(
        card,
        checkpoint=Checkpoint(f"package:{card.name}.safetensors", facts["sha256"]),
        reported=Reported(clean["accuracy"], clean["n"], "training card"),
        parameters=facts["parameters"],
        note=facts.get("note", card.note),
    )


def load_plugin(path: str) -> list[str]:
    """Import a user's file and register each adapter class in it that has a card.

    Returns:
        The names it added.

    Raises:
        UsageError: the file is missing, raises on import, defines no adapter with a card or one
            without ``build``, or names a model that there is already.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"plugin '{path}' was asked for, but there is no such file.")
    name = "robustbench_snn_plugin_" + hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    module = sys.modules.get(name) or _import_plugin(name, file)
    found = _adapters(path, module)
    for value in found:
        try:
            register(value.card, value)
        except UsageError as error:
            raise UsageError(f"plugin '{path}': {error}") from None
    return [value.card.name for value in found]


def _adapters(path: str, module: Any) -> list[Any]:
    """The adapter classes of a plugin, one for each card."""
    from robustbench_snn.adapter import ModelAdapter

    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    found: dict[str, Any] = {}
    for kind in classes:
        card = getattr(kind, "card", None)
        if not issubclass(kind, ModelAdapter) or not isinstance(card, ModelCard):
            continue
        name = card.name
        # A base class may leave build() to the class that inherits its card.
        if name not in found or inspect.isabstract(found[name]):
            found[name] = kind
        elif not inspect.isabstract(kind):
            raise UsageError(
                f"plugin '{path}': '{kind.__name__}' names its model '{name}', but that name is "
                f"already registered by '{found[name].__name__}': give it a card of its own."
            )
    if not found:
        raise UsageError(
            f"plugin '{path}' defines no subclass of ModelAdapter with a 'card': add one class "
            "with card = ModelCard(...) and build()."
        )
    for kind in found.values():
        if inspect.isabstract(kind):
            lacking = ", ".join(f"{method}()" for method in sorted(kind.__abstractmethods__))
            raise UsageError(
                f"plugin '{path}': class '{kind.__name__}' has no {lacking}: add "
                "build(self), which returns the network."
            )
    return list(found.values())


def own_line(error: BaseException, file: str | Path) -> str:
    """Where in ``file`` an exception came from: ``file.py, line 12 (x = y), ``; or nothing."""
    place = Path(file).resolve()
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append(traceback.FrameSummary(error.filename, error.lineno, "", lookup_line=True))
    mine = [frame for frame in frames if Path(frame.filename).resolve() == place]
    return f"{place.name}, line {mine[-1].lineno} ({mine[-1].line}): " if mine else ""


def _import_plugin(name: str, file: Path) -> Any:
    """Run the file; say so before, and hash what it consists of before anything can change."""
    if multiprocessing.parent_process() is None:
        print(f"plug-in: runs {file.resolve()}", file=sys.stderr, flush=True)
    before = set(sys.modules)
    module = _import_file(name, file)
    note_brought_in(name, set(sys.modules) - before - {name})
    foreign_source_sha256(name)
    return module


def _import_file(name: str, file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"plugin '{file}' cannot be imported: it must be a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        import torch  # noqa: F401 - sets up its loggers, as the file itself would

        # Layers of spikingjelly report a GPU compiler as absent, which nothing here needs.
        logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, UsageError):
            raise UsageError(f"plugin '{file}': {error}") from error
        raise UsageError(
            f"plugin '{file}' failed while it was imported: {own_line(error, file)}"
            f"{type(error).__name__}: {error}."
        ) from error
    return module


def _image(
    family: str,
    size: str,
    dataset: str,
    classes: int,
    side: int,
    steps: int,
    config: dict[str, Any],
    normalise: tuple[tuple[float, ...], tuple[float, ...]],
    preprocess: Preprocess,
    ablation: str = "",
    published: Published | None = None,
) -> None:
    levels = re.search(r"-at(\d+)", size)
    card = ModelCard(
        name=f"{family}-{size}.{dataset}",
        dataset=dataset,
        num_classes=classes,
        input_shape=(3, side, side),
        time_steps=steps,
        mean=normalise[0],
        std=normalise[1],
        family=family,
        config={**config, "num_classes": classes},
        paper=PAPERS[family],
        preprocess=preprocess,
        ablation=ablation,
        trained_eps=int(levels[1]) / 255 if levels else 0.0,
        **(published.facts() if published else {}),
    )
    register(card, f"robustbench_snn.models.adapters:{ADAPTERS[family]}")


def _events(family: str, size: str, dataset: str, steps: int, side: int, config: Any) -> None:
    card = ModelCard(
        name=f"{family}-{size}.{dataset}",
        dataset=dataset,
        num_classes=config["num_classes"],
        input_shape=(steps, 2, side, side),
        time_steps=steps,
        family=family,
        config={**config, "in_channels": 2},
        paper=PAPERS[family],
        max_value=None,
    )
    register(card, f"robustbench_snn.models.adapters:{ADAPTERS[family]}")


ADAPTERS = {
    "qkformer": "QKFormerAdapter",
    "sdt": "SpikeDrivenTransformerAdapter",
    "spiliformer": "SpiLiFormerAdapter",
}
TINY_DIM, TINY_STEPS = 64, 2
SMALL_STEPS = 2
# Widths at which the three families have the same number of parameters within 10 %.
SMALL_DIM = {"qkformer": 96, "sdt": 104, "spiliformer": 96}
# Tag of the catalogue name, T, side, top-1 accuracy as the repository's README states it.
PUBLISHED = (
    ("", 4, 224, 0.8582),
    ("-t1", 1, 224, 0.8154),
    ("-288", 4, 288, 0.8662),
    ("-384", 4, 384, 0.8666),
)
ABLATIONS = {"no-ff": {"ff": False}, "no-fb": {"fb": False}}


def _register_small_images() -> None:
    same = Preprocess()
    for family in ADAPTERS:
        layout = {} if family == "sdt" else {"layout": "cifar"}
        tiny = {**layout, "dim": TINY_DIM, "heads": 4}
        grey = ((0.5,) * 3, (0.25,) * 3)
        for size in ("tiny", "tiny-at8"):
            _image(family, size, "digit-scenes", 10, 32, TINY_STEPS, tiny, grey, same)
        size, paper = (
            ("2-512", {"dim": 512}) if family == "sdt" else ("4-384", {**layout, "dim": 384})
        )
        small = {**layout, "dim": SMALL_DIM[family], "heads": 4}
        normal = (CIFAR_MEAN, CIFAR_STD)
        for name in ("small", "small-at4", "small-at8", "small-long"):
            _image(family, name, "cifar10", 10, 32, SMALL_STEPS, small, normal, same)
        reading = {"reading": "cifar100"} if family == "spiliformer" else {}
        small_100, paper_100 = {**small, **reading}, {**paper, **reading}
        norm = (CIFAR100_MEAN, CIFAR100_STD) if family == "sdt" else normal
        _image(family, "small", "cifar100", 100, 32, SMALL_STEPS, small_100, norm, same)
        for name, off in ABLATIONS.items() if family == "spiliformer" else ():
            config = {**small, **off}
            variant = f"small-{name}"
            _image(family, variant, "cifar10", 10, 32, SMALL_STEPS, config, normal, same, name)
        for name in (size, f"{size}-long", f"{size}-at4"):
            _image(family, name, "cifar10", 10, 32, 4, paper, normal, same)
        _image(family, size, "cifar100", 100, 32, 4, paper_100, norm, same)
        if family == "sdt":
            _image(family, "2-256", "cifar10", 10, 32, 4, {"dim": 256}, normal, same)
            _image(family, "2-256", "cifar100", 100, 32, 4, {"dim": 256}, norm, same)


def _register_imagenet() -> None:
    norm = (IMAGENET_MEAN, IMAGENET_STD)
    crop = Preprocess(resize=256, crop=224)
    for dim, heads in ((384, 6), (512, 8), (768, 12)):
        config = {"layout": "imagenet", "dim": dim, "depth": 10, "heads": heads}
        _image("qkformer", f"10-{dim}", "imagenet", 1000, 224, 4, config, norm, crop)
    _register_published(config)
    for depth, dim in ((8, 384), (6, 512), (8, 512), (10, 384), (8, 768)):
        config = {"dim": dim, "depth": depth, "pooling_stat": "1111"}
        tighter = Preprocess(resize=235, crop=224)
        _image("sdt", f"{depth}-{dim}", "imagenet", 1000, 224, 4, config, norm, tighter)


def _register_published(config: dict[str, Any]) -> None:
    """SpiLiFormer on ImageNet: four checkpoints of one network, by its authors."""
    norm = (IMAGENET_MEAN, IMAGENET_STD)
    config = {**config, "reading": "imagenet"}
    for tag, steps, side, accuracy in PUBLISHED:
        # The release crops the middle at 224 and takes the whole shorter side above.
        crop = Preprocess(resize=256 if side == 224 else side, crop=side)
        file = Published(f"checkpoint_spiliformer_T{steps}_{side}.pth", accuracy)
        size = f"10-768{tag}"
        _image(
            *("spiliformer", size, "imagenet", 1000, side, steps, config, norm, crop),
            published=file,
        )


def _register_events() -> None:
    hierarchical = {"layout": "dvs", "dim": 256, "heads": 16, "mlp_ratio": 1, "num_classes": 10}
    gesture = {**hierarchical, "mlp_ratio": 4, "num_classes": 11}
    for family in ("qkformer", "spiliformer"):
        reading = {"reading": "cifar10dvs"} if family == "spiliformer" else {}
        _events(family, "2-256", "cifar10-dvs", 16, 128, {**hierarchical, **reading})
    caltech = {**hierarchical, "num_classes": 101, "reading": "ncaltech101"}
    _events("spiliformer", "2-256", "ncaltech101", 16, 128, caltech)
    _events("qkformer", "2-256", "dvs128-gesture", 16, 128, gesture)
    sdt = {"dim": 256, "num_classes": 10, "dvs_mode": True, "tet": True}
    _events("sdt", "2-256", "cifar10-dvs", 10, 64, sdt)
    sdt_gesture = {"dim": 256, "num_classes": 11, "pooling_stat": "0111"}
    _events("sdt", "2-256", "dvs128-gesture", 16, 128, sdt_gesture)


def _register_installed() -> None:
    """Models of installed packages: entry points to a pair (card, adapter class)."""
    for point in entry_points(group="robustbench_snn.models"):
        card, adapter = point.load()
        register(card, adapter)


_register_small_images()
_register_imagenet()
_register_events()
_register_installed()
