"""What `lifecycle host` puts into a host's configuration, finds there, and takes away."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import lifecycle
from lifecycle.hosts import installing
from lifecycle.hosts.libvirt import install as libvirt
from support.command_line import Call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's / in the making, with this installation's Python where it is."""
    python = tmp_path / "machine" / sys.executable[1:]
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return tmp_path / "machine"


@pytest.fixture
def hook(root: Path) -> Path:
    return root / libvirt.HOOK[1:]


@pytest.fixture
def dispatcher(root: Path) -> Path:
    return root / libvirt.DISPATCHER[1:]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_libvirt_s_hook_is_installed_once(call: Call, root: Path, hook: Path) -> None:
    said = call("host", "install", "libvirt", "--root", str(root)).out
    assert f"wrote {hook}\n" in said
    assert "systemctl reload libvirtd" in said
    assert (mode(hook), mode(hook.parent)) == (0o755, 0o755)
    assert hook.read_text().startswith(f"#!{sys.executable} -I\n")
    assert not os.path.exists(root / libvirt.DISPATCHER[1:])
    before = hook.stat().st_ino
    again = call("host", "install", "libvirt", "--root", str(root)).out
    assert (again, hook.stat().st_ino) == ("libvirt: all was in place\n", before)


def test_who_reads_it_can_reach_it_whatever_the_umask(call: Call, root: Path, hook: Path) -> None:
    before = os.umask(0o077)
    try:
        call("host", "install", "libvirt", "--root", str(root))
    finally:
        os.umask(before)
    above = [one for one in hook.parents if one != root and one.is_relative_to(root)]
    assert {mode(one) for one in (hook, *above)} == {0o755}


def test_what_is_not_as_it_was_installed_is_mended(call: Call, root: Path, hook: Path) -> None:
    call("host", "install", "libvirt", "--root", str(root))
    hook.chmod(0o600)
    document = call("host", "install", "libvirt", "--root", str(root), "--json").document
    assert document == {"host": "libvirt", "written": [str(hook)], "advice": []}
    assert mode(hook) == 0o755


def test_status_tells_of_what_works_and_what_does_not(call: Call, root: Path, hook: Path) -> None:
    where = ("--root", str(root))
    assert "libvirt: not installed\n" in call("host", "status", *where).out
    call("host", "install", "libvirt", *where)
    told = f"libvirt: {hook}: version {lifecycle.__version__}, works\n"
    assert told in call("host", "status", *where).out
    hook.chmod(0o644)
    assert "is not executable" in call("host", "status", *where, status=1).out
    hook.chmod(0o755)
    hook.write_text(hook.read_text().replace(sys.executable, "/nonexistent/python"))
    (one,) = [
        one
        for one in call("host", "status", *where, "--json", status=1).document
        if one["host"] == "libvirt"
    ]
    assert one == {
        "host": "libvirt",
        "path": str(hook),
        "text": f"version {lifecycle.__version__}, its interpreter is not there; install again",
        "works": False,
    }


def test_uninstall_takes_away_what_is_ours_and_nothing_else(
    call: Call, root: Path, hook: Path, dispatcher: Path
) -> None:
    where = ("--root", str(root))
    call("host", "install", "libvirt", "--dispatcher", *where)
    other = hook.with_name("other")
    other.write_text("#!/bin/sh\n")
    removed = call("host", "uninstall", "libvirt", *where, "--json").document["removed"]
    assert removed == [str(hook), str(dispatcher)]
    assert sorted(os.listdir(hook.parent)) == ["other"]
    hook.write_text("#!/bin/sh\n# someone else's\n")
    said = call("host", "uninstall", "libvirt", *where).out
    assert (said, hook.exists()) == ("libvirt: nothing of lifecycle's was there\n", True)


def test_a_hook_of_someone_else_s_is_never_overwritten(
    call: Call, root: Path, hook: Path, dispatcher: Path
) -> None:
    where = ("--root", str(root))
    dispatcher.parent.mkdir(parents=True)
    dispatcher.write_text("#!/bin/sh\n# someone else's\n")
    complaint = call("host", "install", "libvirt", "--dispatcher", *where, status=1).complaint
    assert f"move it to {dispatcher}.d/ and repeat" in complaint
    assert (dispatcher.read_text(), hook.exists()) == ("#!/bin/sh\n# someone else's\n", False)
    call("host", "install", "libvirt", *where)  # libvirt calls both by itself
    hook.write_text("#!/bin/sh\n# someone else's, by our name\n")
    assert f"{hook} is someone else's" in call("host", "install", "libvirt", *where, status=1).err
    assert "by our name" in hook.read_text()


@pytest.mark.parametrize(
    ("version", "needed"), [("6.4.0", True), ("6.5.0", False), ("10.0.0", False), ("none", False)]
)
def test_an_old_libvirt_gets_the_dispatcher(
    root: Path, dispatcher: Path, monkeypatch: pytest.MonkeyPatch, version: str, needed: bool
) -> None:
    programs = root / "programs"
    programs.mkdir()
    daemon = programs / "virtqemud"
    daemon.write_text(f"#!/bin/sh\necho 'virtqemud (libvirt) {version}'\n")
    daemon.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(os.path, "realpath", lambda _root: "/")  # as on the machine itself
    libvirt.install(str(root))
    assert dispatcher.exists() is needed


def test_the_dispatcher_runs_all_hooks_with_the_same_words_and_xml(
    root: Path, hook: Path, dispatcher: Path
) -> None:
    libvirt.install(str(root), dispatcher=True)
    hook.unlink()
    log = root / "log"
    for name, status in (("10-first", 0), ("20-second", 7), ("30-third", 0)):
        one = hook.with_name(name)
        one.write_text(f'#!/bin/sh\necho "{name} $*: $(cat)" >>{log}\nexit {status}\n')
        one.chmod(0o755)
    hook.with_name("05-not-executable").write_text("#!/bin/sh\nexit 9\n")
    hook.with_name("06-directory").mkdir()
    words = [str(dispatcher), "a b", "prepare", "begin", "-"]
    done = subprocess.run(words, input="<domain/>\n", text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert log.read_text().splitlines() == [
        "10-first a b prepare begin -: <domain/>",
        "20-second a b prepare begin -: <domain/>",
    ]


def test_the_dispatcher_hands_on_xml_that_a_hook_has_changed(
    root: Path, hook: Path, dispatcher: Path
) -> None:
    libvirt.install(str(root), dispatcher=True)
    hook.unlink()
    for name, script in (("1", "echo '<changed/>'"), ("2", ":"), ("3", "sed s/changed/again/")):
        hook.with_name(name).write_text(f"#!/bin/sh\n{script}\n")
        hook.with_name(name).chmod(0o755)
    for step, expected in (("restore", "<again/>\n"), ("prepare", "")):
        words = [str(dispatcher), "ci", step, "begin", "-"]
        done = subprocess.run(
            words, input="<domain/>\n", text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, expected)


@pytest.mark.parametrize("name", ["with blanks", "it's", "long" * 60])
def test_an_interpreter_with_a_strange_path_is_found(
    root: Path, hook: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    directory = root / name[:200]
    directory.mkdir()
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    libvirt.install(str(root))
    done = subprocess.run([hook, "ci", "prepare", "begin", "-"], input=b"<domain/>", check=False)
    assert done.returncode == 0
    found = root / str(python)[1:]
    found.parent.mkdir(parents=True)
    assert not libvirt.status(str(root))[0].works
    found.symlink_to(python)
    assert libvirt.status(str(root))[0].works


def test_settings_that_cannot_be_understood_are_told(
    call: Call, root: Path, settings: Path
) -> None:
    libvirt.install(str(root))
    settings.mkdir()
    (settings / "libvirt.toml").write_text('no_reason = "saved"')
    said = call("host", "status", "--root", str(root), status=1).out
    assert "`no_reason` is stopped or crashed, not 'saved'" in said


def test_an_option_of_another_host_s_is_refused(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libvirt, "OPTIONS", frozenset())
    words = ("host", "install", "libvirt", "--dispatcher", "--root", str(root))
    assert "--dispatcher is not for libvirt" in call(*words, status=2).complaint


def test_a_place_that_cannot_be_written_to(call: Call, root: Path) -> None:
    (root / "etc").write_text("a file\n")
    complaint = call("host", "install", "libvirt", "--root", str(root), status=1).complaint
    assert str(root / "etc") in complaint


def test_the_version_that_installed_a_file_is_told() -> None:
    text = f"# {installing.mark('libvirt')}; and more"
    assert installing.version_in(text) == lifecycle.__version__
    assert installing.version_in(text.replace(lifecycle.__version__, "9.9rc1")) == "9.9rc1"
    assert installing.version_in("someone else's") == "unknown"
