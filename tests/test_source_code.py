"""Which files a result depends on: a change in any of them shows, a change elsewhere does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_snn import source_code
from robustbench_snn.source_code import own_roots, own_source_sha256

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "plug.py": "from body import Body\nimport parts\n\ndef build():\n    import late\n",
    "body.py": "from parts.layers import Layer\nBody = 1\n",
    "parts/__init__.py": "",
    "parts/layers.py": "from . import sizes\nfrom .shapes import SIDE\nLayer = sizes.WIDTH\n",
    "parts/sizes.py": "WIDTH = 3\n",
    "parts/shapes.py": "SIDE = 3\n",
    "late.py": "RATE = 1\n",
    "dynamic.py": "VALUE = 1\n",
    "unused.py": "NOTHING = 1\n",
    "site-packages/lib.py": "",
    "site-packages/lib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lib\nVersion: 1.0\n",
}
SCRIPT = """
import sys
folder = sys.argv[1]
sys.path[:0] = [folder, folder + "/site-packages"]
before = set(sys.modules)
import plug
from robustbench_snn.source_code import foreign_source_sha256, note_brought_in
note_brought_in("plug", {n for n in set(sys.modules) - before if n == "dynamic"})
print(foreign_source_sha256("plug"))
"""


def write(folder, changes=()):
    for name, text in (FILES | dict(changes)).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def digest(folder):
    words = [sys.executable, "-B", "-c", SCRIPT, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_a_plugin_leads_to_counts_wherever_it_lies(tmp_path):
    base = digest(write(tmp_path / "a"))
    assert len(base) == 64
    assert digest(write(tmp_path / "b", {"unused.py": "NOTHING = 2\n"})) == base
    led_to = ("plug.py", "body.py", "parts/__init__.py", "parts/layers.py", "parts/sizes.py")
    changed = [
        digest(write(tmp_path / f"c{i}", {name: FILES[name] + "# corrected\n"}))
        for i, name in enumerate((*led_to, "parts/shapes.py", "late.py"))
    ]
    assert len({base, *changed}) == 8


def test_a_module_imported_under_a_made_name_counts(tmp_path):
    plug = {"plug.py": "import importlib\nimportlib.import_module('dyn' + 'amic')\n"}
    first = digest(write(tmp_path / "a", plug))
    assert first != digest(write(tmp_path / "b", plug | {"dynamic.py": "VALUE = 2\n"}))


def test_the_version_of_an_installed_library_counts(tmp_path):
    plug = {"plug.py": "import lib\nimport numpy\nimport json\n"}
    first = digest(write(tmp_path / "a", plug))
    place = "site-packages/lib-1.0.dist-info/METADATA"
    other = plug | {place: FILES[place].replace("Version: 1.0", "Version: 1.1")}
    assert first != digest(write(tmp_path / "b", other))
    assert first == digest(write(tmp_path / "c", plug | {"site-packages/lib.py": "X = 1\n"}))


def test_a_single_file_keeps_its_own_hash(tmp_path):
    import hashlib

    folder = write(tmp_path, {"plug.py": "import numpy\n"})
    assert digest(folder) == hashlib.sha256(b"import numpy\n").hexdigest()


def test_libraries_that_a_plugin_loads_first_are_not_its_own(monkeypatch):
    """A command loads torch through the plug-in, a worker before it: both must hash alike."""
    import robustbench_snn.models.adapters as adapters

    monkeypatch.setattr(source_code, "_brought_in", {})
    loaded = ("torch", "pandas", "json", "robustbench_snn.models.adapters", __name__)
    source_code.note_brought_in("plug", loaded)
    assert source_code._brought_in == {"plug": {__name__}}
    assert source_code.foreign_source_sha256(adapters.QKFormerAdapter) == ""
    assert own_roots(adapters.QKFormerAdapter) == {"models.adapters"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's source that a test may change."""
    copy = tmp_path / "robustbench_snn"
    skip = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "robustbench_snn", copy, ignore=skip)
    monkeypatch.setattr(source_code, "_ROOT", copy)
    yield copy
    source_code._own_closure.cache_clear()


def digests():
    source_code._own_closure.cache_clear()
    kinds = {
        "apgd": ({"worker", "attacks.apgd"}, "corruptions"),
        "fgsm": ({"worker", "attacks.gradient"}, "corruptions"),
        "corrupted": ({"worker"}, ""),
        "maps": ({"explain.model_run"}, ""),
    }
    return {kind: own_source_sha256(roots, spared) for kind, (roots, spared) in kinds.items()}


CHANGES = [
    ("attacks/apgd.py", {"apgd"}),
    ("attacks/pursuit.py", {"apgd"}),
    ("attacks/gradient.py", {"fgsm"}),
    ("measure.py", {"apgd", "fgsm", "corrupted", "maps"}),
    ("models/lif.cpp", {"apgd", "fgsm", "corrupted", "maps"}),
    ("corruptions/blur.py", {"corrupted", "maps"}),
    ("explain/map_metrics.py", {"maps"}),
    ("weights.py", {"apgd", "fgsm", "corrupted", "maps"}),
    ("report/table4.py", set()),
    ("store.py", set()),
    ("run.py", set()),
]


@pytest.mark.parametrize(("file", "kinds"), CHANGES, ids=[file for file, _ in CHANGES])
def test_the_packages_own_source_counts_where_it_decides(package, file, kinds):
    before = digests()
    path = package / file
    path.write_text(path.read_text() + "\n")
    after = digests()
    assert {kind for kind in before if before[kind] != after[kind]} == kinds


def test_every_attack_is_under_its_own_source():
    from robustbench_snn.attacks import ATTACKS, attack_type

    # Other tests register attacks of their own, as classes.
    own = [name for name in ATTACKS.names() if isinstance(attack_type(name).impl, str)]
    assert len(own) >= 8
    for name in own:
        (home,) = own_roots(attack_type(name).impl)
        assert home in source_code.own_modules(), name
