"""What runs code, and when: plug-ins alone, announced, never because a settings file says so."""

import gzip
import io
import re
import tarfile

import pytest
from image_files import batch_file, noise
from PIL import Image

from robustbench_snn.corruptions.archives import Archive
from robustbench_snn.corruptions.fetch import extract
from robustbench_snn.data import cifar_archive, load_dataset
from robustbench_snn.errors import UsageError
from robustbench_snn.run import main

BODY = """
import torch
from torch import nn
from robustbench_snn import ModelAdapter, ModelCard
from pathlib import Path
Path({ran!r}).write_text("ran")

class Trusted(ModelAdapter):
    card = ModelCard(name="{name}.digit-scenes", dataset="digit-scenes", num_classes=10,
                     input_shape=(3, 32, 32), time_steps=1)
    def build(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
"""
SUITE = 'plugins = ["{plug}"]\n[[step]]\nname = "fgsm"\n'


@pytest.fixture
def files(tmp_path, request):
    """A plug-in that leaves a trace, and a preset and a suite that name it."""
    name = re.sub(r"[\W_]+", "-", request.node.name).strip("-")
    ran, plug = tmp_path / "ran", tmp_path / "plug.py"
    plug.write_text(BODY.format(ran=str(ran), name=name))
    (tmp_path / "p.toml").write_text(f'plugins = ["{plug}"]\n')
    (tmp_path / "s.toml").write_text(SUITE.format(plug=plug))
    return {
        "PLUG": str(plug),
        "PRESET": str(tmp_path / "p.toml"),
        "SUITE": str(tmp_path / "s.toml"),
    }


@pytest.mark.parametrize(
    "words",
    [
        "--preset PRESET",
        "--preset PRESET --print-config",
        "--preset PRESET --plan",
        "--preset PRESET --list",
        "--preset PRESET --plugin tests/tiny_models.py --print-config",
        "--suite SUITE",
        "--suite SUITE --print-config",
    ],
)
def test_a_settings_file_alone_runs_nothing(files, tmp_path, capsys, words):
    argv = [files.get(word, word) for word in words.split()]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert f"names the plug-in '{files['PLUG']}', which is code and was not run" in err
    assert "--allow-plugins" in err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trust", ["--allow-plugins", "--plugin PLUG"])
@pytest.mark.parametrize("settings", ["--preset PRESET", "--suite SUITE"])
def test_trusted_plugins_run_and_are_announced_before(files, tmp_path, capsys, settings, trust):
    argv = [files.get(word, word) for word in f"{settings} {trust} --print-config".split()]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert f"plug-in: runs {files['PLUG']}\n" in err
    assert out.count(files["PLUG"]) == 1
    assert (tmp_path / "ran").exists()


def test_a_plugin_is_announced_before_it_fails(tmp_path, capsys):
    path = tmp_path / "bad.py"
    path.write_text("raise RuntimeError('at once')")
    assert main(["--plugin", str(path)]) == 2
    announced, failed = capsys.readouterr().err.splitlines()[:2]
    assert announced == f"plug-in: runs {path}"
    assert "at once" in failed


def tarball(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def linked(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member, b""


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_link_in_a_tarball_is_one_sentence(tmp_path, kind):
    tarball(tmp_path / "cifar-10-python.tar.gz", linked("cifar-10-batches-py/test_batch", kind))
    with pytest.raises(UsageError, match="holds 'cifar-10-batches-py/test_batch' as a link"):
        load_dataset("cifar10", "test", tmp_path)


def test_a_tarball_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path, monkeypatch):
    # A header that promises 100 GB, and a stream that compresses a thousandfold.
    member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    member.size = 100 << 30
    with gzip.open(tmp_path / "cifar-10-python.tar.gz", "wb") as stream:
        stream.write(member.tobuf() + b"\0" * (8 << 20))
    with pytest.raises(UsageError, match="unpacks to more than the original archive holds"):
        load_dataset("cifar10", "test", tmp_path)
    monkeypatch.setattr(cifar_archive, "_LARGEST_ARCHIVE", 100_000)
    batch = batch_file(noise(8), list(range(8)))
    other = (tarfile.TarInfo("unknown"), b"\0" * 90_000)
    tarball(tmp_path / "cifar-10-python.tar.gz", other, (tarfile.TarInfo("a/test_batch"), batch))
    with pytest.raises(UsageError, match="unpacks to more than the original archive holds"):
        load_dataset("cifar10", "test", tmp_path)


def test_official_archives_with_dangling_links_are_one_sentence(tmp_path):
    tarball(tmp_path / "x.tar", linked("a", tarfile.LNKTYPE))
    with pytest.raises(UsageError, match="cannot unpack"):
        extract(tmp_path / "x.tar", Archive(1, "x.tar", 1, "0"), tmp_path / "to")


def test_a_picture_that_unpacks_to_too_much_is_one_sentence(tmp_path, monkeypatch):
    folder = tmp_path / "val" / "n01440764"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(folder / "a.JPEG", "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UsageError, match="cannot be decoded"):
        load_dataset("imagenet", "test", tmp_path).batch([0])
