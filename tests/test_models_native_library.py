"""The library of compiled layers: built, kept and trusted only if it is whole and the user's."""

import ctypes
import os
import pwd
import select
import shutil
import stat

import pytest
import torch

from robustbench_snn.models import native, neuron
from robustbench_snn.models.neuron import LIF, FusedLIF

needs_compiler = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or a processor without AVX2"
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A cache of its own, nothing loaded, and the switch back in place at the end."""
    monkeypatch.setenv(native.OFF, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """Where the library is kept."""
    return tmp_path / "cache" / "robustbench_snn"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The library as the real compiler makes it."""
    return native.build(tmp_path_factory.mktemp("real"))


@pytest.fixture
def act_as_compiler(monkeypatch, tmp_path):
    """Makes a shell script the compiler; ``$made`` is the file it is asked for."""

    def act(script):
        path = tmp_path / "fake-compiler"
        path.write_text(f'#!/bin/sh\nfor made; do :; done\necho >> "{tmp_path}/calls"\n{script}\n')
        path.chmod(0o700)
        monkeypatch.setenv("CXX", str(path))

    return act


@pytest.fixture
def copying(act_as_compiler, compiled):
    """A compiler that hands out the real library at once."""
    act_as_compiler(f'cp "{compiled}" "$made"')


def calls(tmp_path):
    return (tmp_path / "calls").read_text().count("\n")


def refusal(capsys):
    """The one line that says why the compiled layers are not used."""
    assert native.library() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: eager neuron layers are used, slower and with the same results: ")
    assert os.environ[native.OFF] == "0"  # worker processes are not to try again
    return line


@needs_compiler
def test_a_whole_library_is_built_once_and_then_read(copying, capsys, folder, tmp_path):
    for _ in range(2):
        native.library.cache_clear()
        assert native.library() is not None
    assert calls(tmp_path) == 1
    assert capsys.readouterr().err == ""
    (library,) = folder.glob("*.so")
    for path in (folder, library):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [
        library.name,
        library.name + ".sha256",
    ]


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "empty", "a bit", "no checksum", "odd checksum"])
def test_a_damaged_library_is_built_again(copying, folder, tmp_path, compiled, damage):
    library = native.build(folder)
    whole = compiled.read_bytes()
    beside = folder / f"{library.name}.sha256"
    if damage == "truncated":
        os.truncate(library, len(whole) // 2)
    elif damage == "empty":
        os.truncate(library, 0)
    elif damage == "a bit":
        library.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    elif damage == "no checksum":
        beside.unlink()
    else:
        beside.write_bytes(b"\xff\xfe")
    assert native.build(folder) == library
    assert calls(tmp_path) == 2
    assert library.read_bytes() == whole
    assert native.library() is not None
    assert calls(tmp_path) == 2


@needs_compiler
@pytest.mark.parametrize("which", ["folder", "library"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_what_others_may_write_is_not_loaded(copying, capsys, folder, monkeypatch, which, mode):
    library = native.build(folder)
    open_to_others = folder if which == "folder" else library
    open_to_others.chmod(mode)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: pytest.fail(f"loads {path}"))
    line = refusal(capsys)
    assert f"'{open_to_others}' is writable by others; run: chmod go-w" in line
    assert stat.S_IMODE(open_to_others.stat().st_mode) == mode


@needs_compiler
def test_what_belongs_to_another_user_is_not_loaded(copying, capsys, folder, monkeypatch):
    native.build(folder)
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert f"'{folder}' belongs to another user" in refusal(capsys)


@needs_compiler
def test_a_library_of_another_user_in_ones_own_folder_is_not_loaded(
    copying, capsys, folder, monkeypatch
):
    library = native.build(folder)
    real = native._refuse_foreign

    def foreign(path, found):
        changed = list(found)
        changed[stat.ST_UID] += path == library
        real(path, os.stat_result(changed))

    monkeypatch.setattr(native, "_refuse_foreign", foreign)
    assert f"'{library}' belongs to another user" in refusal(capsys)


@needs_compiler
def test_a_link_in_its_place_is_not_followed(copying, capsys, folder, tmp_path):
    library = native.build(folder)
    library.rename(tmp_path / "elsewhere.so")
    library.symlink_to(tmp_path / "elsewhere.so")
    assert f"'{library}' is a link" in refusal(capsys)


def test_a_relative_cache_path_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "cache", "./cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert native.cache_folder() == tmp_path / ".cache" / "robustbench_snn"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert native.cache_folder() == tmp_path / "x" / "robustbench_snn"


@needs_compiler
def test_a_relative_home_is_not_used(capsys, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "here")
    assert "the home folder 'here' is not an absolute path" in refusal(capsys)


def test_without_a_home_one_line_says_so(capsys, monkeypatch):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert "there is no home folder; set XDG_CACHE_HOME" in refusal(capsys)


@needs_compiler
def test_a_file_in_the_folders_place_is_one_line(copying, capsys, folder):
    folder.parent.mkdir()
    folder.write_text("a file")
    assert "File exists" in refusal(capsys)


@needs_compiler
def test_without_a_compiler_the_eager_layer_is_used(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    neuron.use("native")
    try:
        x = 2 * torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
        for _ in range(2):  # said once
            assert torch.equal(LIF()(x), FusedLIF.apply(x, 2.0, 1.0, 4.0))
    finally:
        neuron.use("eager")
    assert "there is no C++ compiler" in refusal(capsys)


@needs_compiler
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 7", "failed with exit code 7 (it says nothing)"),
        ("echo 'lif.cpp:1: fatal error: no headers' >&2; exit 1", "fatal error: no headers"),
        ("kill -9 $$", "failed with exit code -9"),
        ("exit 0", "No such file"),
        ('echo no library > "$made"', "a library that does not load"),
    ],
)
def test_a_broken_compiler_is_one_line(act_as_compiler, capsys, folder, script, said):
    act_as_compiler(script)
    assert said in refusal(capsys)
    assert [path for path in folder.iterdir() if path.is_dir()] == []


@needs_compiler
def test_a_hanging_compiler_is_ended_with_all_it_started(
    act_as_compiler, capsys, folder, monkeypatch, tmp_path
):
    monkeypatch.setattr(native, "COMPILER_LIMIT", 0.5)
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    act_as_compiler(f'exec 3> "{tmp_path}/alive"; echo started >&3; sleep 600 & wait')
    try:
        assert "did not end in 0.5 seconds" in refusal(capsys)
        assert os.read(reader, 100) == b"started\n"
        # The end of the file comes when no process has it open for writing.
        assert select.select([reader], [], [], 60)[0] == [reader]
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
    assert list(folder.iterdir()) == []


@needs_compiler
def test_a_library_without_our_functions_is_one_line(act_as_compiler, capsys):
    real = native.compiler()
    act_as_compiler(f'"{real}" -shared -fPIC -x c++ /dev/null -o "$made"')
    assert "lif_forward" in refusal(capsys)


@needs_compiler
def test_a_mended_compiler_gets_another_chance(
    act_as_compiler, capsys, compiled, monkeypatch, tmp_path
):
    act_as_compiler(f'cp "{tmp_path}/next" "$made"')
    (tmp_path / "next").write_text("no library")
    assert "a library that does not load" in refusal(capsys)
    monkeypatch.setenv(native.OFF, "1")
    native.library.cache_clear()
    (tmp_path / "next").write_bytes(compiled.read_bytes())
    assert native.library() is not None


@needs_compiler
def test_a_layer_that_is_off_by_a_bit_is_not_used(capsys, folder, monkeypatch, tmp_path):
    wrong = tmp_path / "lif.cpp"
    text = native.SOURCE.read_text()
    wrong.write_text(text.replace("const V half = all(0.5f);", "const V half = all(0.5000001f);"))
    monkeypatch.setattr(native, "SOURCE", wrong)
    assert "they differ from the eager layers" in refusal(capsys)
    assert len(list(folder.glob("*.so"))) == 1


@needs_compiler
def test_switched_off_nothing_is_built_or_said(capsys, folder, monkeypatch):
    monkeypatch.setenv(native.OFF, "0")
    assert native.library() is None
    assert capsys.readouterr().err == ""
    assert not folder.exists()
