"""Hosts of other packages: installed, listed and removed like those of lifecycle, and named when they fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import lifecycle
from lifecycle import PluginFailed
from lifecycle.hosts import host
from support.command_line import Call
from support.installed_packages import HOSTS, add

MICROVM = """
from lifecycle.hosts import installing
from lifecycle.hosts.host import Installed, NotInstalled

OPTIONS = frozenset({"loud"})
FILE = "/etc/microvm/hooks/lifecycle"

def install(root, *, loud=False):
    where = installing.below(root, FILE)
    if not installing.is_ours(installing.read(where) or installing.mark("microvm")):
        raise NotInstalled(f"{where} is someone else's; move it away and repeat")
    text = f"#!/bin/sh\\n# {installing.mark('microvm')}\\n# loud: {loud}\\n"
    return installing.put(where, text, executable=True)

def advice(root, written):
    return ["restart microvmd, once"] if written else []

def uninstall(root):
    return installing.take_away(installing.below(root, FILE))

def status(root):
    where = installing.below(root, FILE)
    text = installing.read(where)
    if text is None:
        return []
    return [Installed(where, f"version {installing.version_in(text)}, works", True)]
"""
"""A whole one: a module, as those of lifecycle are."""

OBJECT = """
class Host:
    def install(self, root): return [f"{root}/one"]
    def uninstall(self, root): return ()
    def status(self, root): return []

term = Host()
"""
"""The least that one can be: an object, without options and advice."""

BROKEN = """
import sys
from lifecycle import LifecycleError
from lifecycle.hosts.host import Installed

async def later(): ...
def fails(root): {does}
install = uninstall = status = fails
"""
FAILS: dict[str, tuple[str, str]] = {
    "raises": ("1 / 0", "raised ZeroDivisionError: division by zero"),
    "leaves": ("sys.exit(0)", "raised SystemExit: 0"),
    "meets_the_disk": ("open('/nowhere/to/be')", "raised FileNotFoundError: [Errno 2]"),
    "returns_none": ("return None", "answered `{0}` with None"),
    "returns_a_number": ("return 7", "answered `{0}` with 7"),
    "returns_numbers": ("return [7]", "answered `{0}` with [7]"),
    "returns_a_coroutine": ("return later()", "answered `{0}` with <coroutine object"),
}
"""What each of such a host's functions does, and how that is said of the one that was asked."""

NONE: dict[str, tuple[str, str]] = {
    "imports_not": ("import nowhere", "cannot be loaded: it raised ModuleNotFoundError: No module"),
    "exits": ("import sys; sys.exit(0)", "cannot be loaded: it raised SystemExit: 0"),
    "lacks_all": ("", "is no host: <module 'host_lacks_all'"),
    "lacks_status": (
        "def install(root): ...\ndef uninstall(root): ...",
        "has no function `status`",
    ),
    "has_odd_options": (
        "def install(root): ...\nuninstall = status = install\nOPTIONS = 5",
        "is no host: its `OPTIONS` are 5 and no set",
    ),
    "answers_oddly": ("def __getattr__(name): 1 / 0", "is no host: it raised ZeroDivisionError"),
}
"""Modules that are no hosts, and how that is said."""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which packages are installed, for this process too."""
    target = tmp_path / "packages"
    target.mkdir()
    monkeypatch.syspath_prepend(target)
    return target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's / in the making."""
    return tmp_path / "machine"


def install(packages: Path, name: str, code: str, what: str = "") -> str:
    """Install a package that offers its module as a host; return how messages name it."""
    add(packages, f"host_{name}", code, name, HOSTS, what)
    return f"the plugin `{name}` (host_{name}{what} of host_{name} 1)"


def of(name: str, document: Any) -> list[Any]:
    return [one for one in document if one["host"] == name]


def test_it_is_installed_listed_and_removed_like_any_other(
    call: Call, packages: Path, root: Path
) -> None:
    install(packages, "microvm", MICROVM)
    where = ("--root", str(root))
    file = root / "etc/microvm/hooks/lifecycle"
    lines = call("host", "status", *where).out.splitlines()
    assert lines == [f"{one}: not installed" for one in ("libvirt", "systemd", "microvm")]
    said = call("host", "install", "microvm", *where).out
    assert said.splitlines()[-2:] == [f"wrote {file}", "restart microvmd, once"]
    assert os.access(file, os.X_OK)
    assert "loud: False" in file.read_text()
    again = call("host", "install", "microvm", *where).out
    assert again == "microvm: all was in place\n"
    told = {
        "host": "microvm",
        "path": str(file),
        "text": f"version {lifecycle.__version__}, works",
        "works": True,
    }
    assert of("microvm", call("host", "status", *where, "--json").document) == [told]
    assert call("host", "uninstall", "microvm", *where).out == f"removed {file}\n"
    assert not file.exists()


def test_its_own_refusal_is_said_in_its_own_words(call: Call, packages: Path, root: Path) -> None:
    install(packages, "microvm", MICROVM)
    file = root / "etc/microvm/hooks/lifecycle"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n")
    said = call("host", "install", "microvm", "--root", str(root), status=1).complaint
    assert said == f"lifecycle: {file} is someone else's; move it away and repeat\n"


def test_it_takes_the_options_that_it_names(call: Call, packages: Path, root: Path) -> None:
    install(packages, "microvm", MICROVM)
    words = ("host", "install", "microvm", "--root", str(root))
    call(*words, "--option", "loud")
    assert "loud: True" in (root / "etc/microvm/hooks/lifecycle").read_text()
    said = call(*words, "--option", "quiet", status=2).complaint
    assert "microvm takes no option quiet; it takes loud." in said
    assert "--enable is not for microvm." in call(*words, "--enable", status=2).complaint


def test_an_object_will_do_and_may_leave_out_what_it_does_not_need(
    call: Call, packages: Path, root: Path
) -> None:
    install(packages, "small", OBJECT, ":term")
    words = ("--root", str(root), "--json")
    document = call("host", "install", "small", *words).document
    assert document == {"host": "small", "written": [f"{root}/one"], "advice": []}
    assert call("host", "uninstall", "small", *words).document["removed"] == []
    assert of("small", call("host", "status", *words).document) == []


@pytest.mark.parametrize("name", FAILS)
def test_what_goes_wrong_in_it_is_named(name: str, call: Call, packages: Path, root: Path) -> None:
    does, said = FAILS[name]
    plugin = install(packages, name, BROKEN.format(does=does))
    for asked in ("install", "uninstall"):
        words = ("host", asked, name, "--root", str(root))
        complaint = call(*words, status=1).complaint
        assert complaint.startswith(f"lifecycle: {plugin} ")
        assert said.format(asked) in complaint
        answer = call(*words, "--json", status=1).document
        assert answer["error"]["kind"] == "PluginFailed"
    called = call("host", "status", "--root", str(root), status=1)
    assert f"{name}: {plugin} " in called.out
    assert said.format("status") in called.out
    assert {"libvirt: not installed", "systemd: not installed"} <= set(called.out.splitlines())
    assert called.err == ""
    (one,) = of(name, call("host", "status", "--root", str(root), "--json", status=1).document)
    assert (one["path"], one["works"]) == (None, False)


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_host_is_named(name: str, call: Call, packages: Path, root: Path) -> None:
    code, said = NONE[name]
    plugin = install(packages, name, code)
    with pytest.raises(PluginFailed) as caught:
        host.find(name)
    assert str(caught.value).startswith(plugin)
    assert said in str(caught.value)
    for asked in ("install", "uninstall"):
        assert said in call("host", asked, name, "--root", str(root), status=1).complaint
    assert said in call("host", "status", "--root", str(root), status=1).out


def test_two_packages_with_one_name_are_refused(call: Call, packages: Path, root: Path) -> None:
    add(packages, "host_one", MICROVM, "microvm", HOSTS, "")
    add(packages, "host_other", MICROVM, "microvm", HOSTS, "")
    said = "more than one installed package offers a host `microvm`"
    assert said in call("host", "install", "microvm", "--root", str(root), status=2).complaint
    assert f"microvm: {said}" in call("host", "status", "--root", str(root), status=1).out
    assert not root.exists()


def test_a_host_that_is_not_there(call: Call, packages: Path) -> None:
    install(packages, "microvm", MICROVM)
    said = call("host", "install", "floppy", status=2).complaint
    assert "there is no host `floppy`: known are libvirt, systemd, microvm;" in said


def test_no_package_takes_the_place_of_a_host_of_lifecycle(
    call: Call, packages: Path, root: Path
) -> None:
    install(packages, "libvirt", "raise ImportError('looked at')")
    assert "wrote" in call("host", "install", "libvirt", "--root", str(root)).out
    status = call("host", "status", "--root", str(root), status=None)
    assert (status.out.count("libvirt: "), status.err) == (1, "")
