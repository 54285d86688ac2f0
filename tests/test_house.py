"""Rules about the source itself: import directions, light imports, file sizes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import robustbench_snn

PACKAGE = Path(robustbench_snn.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = ("robustbench_snn", "experiments", "benchmarks", "tests")

# A module may import from its own layer and the layers above it in this list.
LAYERS = [
    {"errors", "schema"},
    {"registry", "card", "attack_spec", "metrics", "provenance", "row_files", "source_code"}
    | {"endings"},
    {"config", "store", "report.tables", "resumable"},
    {
        "presets",
        "memory",
        "catalogue",
        "adapter",
        "weights",
        "fit",
        "hub_file",
        "models",
        "data",
        "estimators",
        "attacks",
        "corruptions",
    },
    {"batching", "plan", "rows", "measure", "loading", "conformance", "worker", "cost", "runner"}
    | {"report"},
]
HEAVY = {"torch", "pandas", "seaborn", "cv2", "datasets", "pyarrow", "rich", "matplotlib"}
BROKEN = {"torchvision", "torchaudio", "timm"}
TORCH_FREE = {
    *LAYERS[0],
    *LAYERS[1],
    *LAYERS[2],
    "presets",
    "catalogue",
    "plan",
    "rows",
    "report",
    "data",
    "options",
    "resolve",
    "listing",
    "run",
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(tree, top_level_only=False):
    """Full names of all modules imported, those for type checking excepted."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        nodes += ast.iter_child_nodes(node)


def level(name):
    """Of ``report.tables``: its own layer, else that of ``report``, else the topmost."""
    for known in (name, name.partition(".")[0]):
        for i, layer in enumerate(LAYERS):
            if known in layer:
                return i
    return len(LAYERS)


def ours(names):
    """Our modules among ``names``: ``report.tables`` for ``robustbench_snn.report.tables``."""
    known = {module_name(source) for source in SOURCES}
    inside = {name.removeprefix("robustbench_snn.") for name in names}
    return {name for name in inside if name in known and name}


@pytest.mark.parametrize("path", [p for p in SOURCES if module_name(p)], ids=module_name)
def test_imports_go_one_way(path):
    name = module_name(path)
    imported = ours(imports(ast.parse(path.read_text())))
    upward = {other for other in imported if level(other) > level(name)}
    assert not upward, f"{name} imports {upward} from above it"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_nothing_imports_packages_that_break(path):
    roots = {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert not roots & BROKEN


def test_rooms_without_torch_stay_so():
    for path in SOURCES:
        if module_name(path).split(".")[0] in TORCH_FREE:
            found = imports(ast.parse(path.read_text()), top_level_only=True)
            assert "torch" not in {name.partition(".")[0] for name in found}, path


def all_sources():
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_files_are_small():
    sizes = {path: len(path.read_text().splitlines()) for path in all_sources()}
    assert len(sizes) > len(SOURCES)
    assert {path: size for path, size in sizes.items() if size > 400} == {}


def test_functions_fit_a_screen():
    long = []
    for path in all_sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{path.name}:{node.name}")
    assert long == []


def test_public_signatures_are_typed_and_documented():
    lacking = []
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_":
                typed = isinstance(node, ast.ClassDef) or node.returns is not None
                if not typed or not ast.get_docstring(node):
                    lacking.append(f"{module_name(path)}.{node.name}")
    assert lacking == []


def loaded_after(code):
    script = f"{code}\nimport sys; print('LOADED', *sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


COMMANDS = [
    ["--help"],
    ["--list"],
    ["--attack", "pgd", "--help"],
    ["--print-config"],
    ["--corruption", "all", "--print-config"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_and_lists_answer_without_heavy_imports(words):
    code = f"""
from robustbench_snn.run import main
try:
    code = main({words!r})
except SystemExit as exit:
    code = exit.code
assert code == 0, code
"""
    assert not loaded_after(code) & HEAVY


def test_importing_the_package_is_light():
    assert not loaded_after("import robustbench_snn; dir(robustbench_snn)") & HEAVY


@pytest.mark.parametrize("name", robustbench_snn.__all__)
def test_public_names_resolve(name):
    assert getattr(robustbench_snn, name) is not None


def test_unknown_public_name():
    with pytest.raises(AttributeError, match="has no attribute 'robustness'"):
        _ = robustbench_snn.robustness
