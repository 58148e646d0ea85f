"""libvirt's hook, called as libvirtd calls it: starts, what libvirt would never say, and the hook as a process.

What a real libvirtd makes of it is in test_libvirtd.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lifecycle import Pool, Volume
from lifecycle.engine import batch
from lifecycle.hosts.libvirt import domain_events
from lifecycle.hosts.libvirt import hook as hook_
from lifecycle.machine import known_pools
from support.disks import SIZE, draw, numbers, seen_by_vm
from support.failing_backend import backend_fails
from support.holding_open import by_another_process
from support.libvirt_hook import OTHER, UUID, Hook, xml

# ---------------------------------------------------------------- starting


def test_a_start_gives_all_volumes_their_images(vms: Pool, root: Volume, hook: Hook) -> None:
    data = vms.create_volume("ci/data", SIZE)
    hook("prepare", xml(root, data, "/var/lib/libvirt/images/other.qcow2"))
    assert [root.state, data.state] == ["started", "started"]


def test_a_start_is_refused_in_one_line_and_nothing_has_started(
    vms: Pool, root: Volume, hook: Hook
) -> None:
    data = vms.create_volume("ci/data", SIZE)
    data.start()
    with by_another_process(data.path) as holder:
        said = hook("prepare", xml(root, data), status=1)
    assert said.startswith("lifecycle: ci/data is started: cannot start: ")
    assert str(holder) in said
    assert (root.state, data.state) == ("created", "started")


@pytest.mark.parametrize("spelling", ["link to the directory", "link to the image", "dots", "dev"])
def test_a_disk_is_known_however_its_path_is_written(
    vms: Pool, root: Volume, hook: Hook, tmp_path: Path, spelling: str
) -> None:
    content = {
        "link to the directory": lambda: xml(f"{tmp_path}/link/ci/root-dirty.img"),
        "link to the image": lambda: xml(f"{tmp_path}/disk"),
        "dots": lambda: xml(f"{vms.path}/./other/..//ci/root-dirty.img"),
        "dev": lambda: xml(root).replace("file=", "dev="),
    }[spelling]()
    (tmp_path / "link").symlink_to(vms.path)
    (tmp_path / "disk").symlink_to(root.path)
    hook("prepare", content)
    assert root.state == "started"


@pytest.mark.parametrize(
    "inside",
    [
        "<disk><backingStore><source file='{}'/></backingStore></disk>",
        "<disk><mirror><source file='{}'/></mirror></disk>",
        "<disk><source file='/elsewhere'><x file='{}'/></source></disk>",
        "<filesystem><source file='{}'/></filesystem>",
        "<disk><source name='{}'/></disk>",
    ],
)
def test_what_is_no_disk_of_the_vm_is_not_followed(root: Volume, hook: Hook, inside: str) -> None:
    content = f"<domain><devices>{inside.format(root.path)}</devices></domain>"
    hook("prepare", content)
    assert root.state == "created"


def test_a_pool_that_is_not_known_is_left_alone_but_told_of(
    root: Volume, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    for one in known_pools.known():
        known_pools.forget(one.name)
    hook("prepare", xml(root))
    assert root.state == "created"
    assert "lies in a pool, but is the working image of no volume" in caplog.text


def test_no_libvirt_vm_starts_what_another_has_though_its_qemu_has_not_opened_it_yet(
    root: Volume, hook: Hook
) -> None:
    hook("prepare", xml(root))
    other = xml(root, name="other", uuid=OTHER)
    said = hook("prepare", other, status=1)
    assert f"libvirt's VM ci ({UUID}) has started it" in said
    hook("stopped", other)
    hook("release", other, "failed")
    assert (root.state, batch.started_by(root)) == ("started", f"libvirt's VM ci ({UUID})")
    hook("release", xml(root), "shutdown")
    assert root.state == "created"


def test_what_was_left_over_before_a_failed_start_is_left_over_after_it(
    same_pool: Pool, root: Volume, hook: Hook
) -> None:
    data = same_pool.create_volume("ci/zzz", SIZE)
    root.start()
    draw(root, b"left over")
    with backend_fails(same_pool, "start", only=data.id):
        hook("prepare", xml(root, data), status=1)
    hook("stopped", xml(root, data))
    hook("release", xml(root, data), "failed")
    assert (root.state, data.state, numbers(root)) == ("dirty", "created", [])


def test_a_vm_that_was_cut_off_with_its_host_meets_its_crash_policy_at_its_start(
    vms: Pool, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = {
        policy: vms.create_volume(f"ci/{policy}", SIZE, on_crash=policy)
        for policy in ("resume", "commit", "revert")
    }
    hook("prepare", xml(*volumes.values()))
    for volume in volumes.values():
        draw(volume, b"written")
    monkeypatch.setattr(batch, "_boot", lambda: "another")
    hook("prepare", xml(*volumes.values()))
    found = {
        policy: (volume.state, numbers(volume), seen_by_vm(volume)[:7])
        for policy, volume in volumes.items()
    }
    assert found == {
        "resume": ("dirty", [], b"written"),
        "commit": ("started", [], b"written"),
        "revert": ("started", [], bytes(7)),
    }
    assert volumes["commit"].current == 1


# ---------------------------------------------------------------- what libvirt would never say

BOMB = (
    "<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(
        f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]><domain><name>&j;</name></domain>"
)
UNREADABLE = {
    "a bomb": BOMB,
    "an external entity": "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>",
    "half of it": "<domain><devices>",
    "no XML": "hello",
    "not UTF-8": b"<domain><name>\xff</name></domain>",
    "a control character": "<domain><name>\x01</name></domain>",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=list(UNREADABLE))
def test_xml_that_cannot_be_read_lets_no_vm_start_and_every_vm_end(
    hook: Hook, content: str | bytes
) -> None:
    assert hook("prepare", content, status=1).startswith("lifecycle: the VM's XML ")
    for step in ("reconnect", "migrate", "attach", "an unknown step"):
        assert hook(step, content) == ""


def test_xml_that_is_too_long_is_not_read(
    root: Volume, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = xml(root)
    monkeypatch.setattr(hook_, "LONGEST_XML", len(content) - 1)
    assert "longer than" in hook("prepare", content, status=1)
    monkeypatch.setattr(hook_, "LONGEST_XML", len(content))
    hook("prepare", content)
    assert root.state == "started"


@pytest.mark.parametrize("content", ["", "\n", "<domain/>", "<domain><devices/></domain>"])
def test_a_vm_of_which_nothing_is_said_has_no_volumes(hook: Hook, content: str) -> None:
    hook("prepare", content)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a\tb\nc", "é🙂", "", "'\"<&>", "\x85\u2028", "%s {name}"]
)
def test_a_strange_name_is_a_name(root: Volume, hook: Hook, name: str) -> None:
    hook("prepare", xml(root, name=name))
    said = hook("prepare", xml(root, uuid=OTHER), status=1)
    assert len(said) < 500
    assert said.isascii() or "…" in said
    hook("release", xml(root, name=name), "shutdown")
    assert root.state == "created"


@pytest.mark.parametrize("path", ["", "x" * 5000, "a\nb", "relative/disk", "/", "é" * 300])
def test_a_strange_path_is_no_volume(root: Volume, hook: Hook, path: str) -> None:
    hook("prepare", xml(path, root))
    assert root.state == "started"


def test_elements_may_lie_as_deep_as_they_like(hook: Hook) -> None:
    hook("prepare", "<domain>" + "<x>" * 100_000 + "</x>" * 100_000 + "</domain>")


def test_a_document_type_is_refused_in_a_status_too(status: Path) -> None:
    status.write_text("<!DOCTYPE domstatus><domstatus state='running'/>")
    assert domain_events.ending_by_status("ci") is None


# ---------------------------------------------------------------- as a process


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    from lifecycle.hosts.libvirt import install

    install.install(str(tmp_path))
    return tmp_path / install.HOOK[1:]


@pytest.mark.parametrize("how", ["closed", "empty", "with all closed"])
def test_there_may_be_no_standard_input(installed: Path, how: str) -> None:
    redirected = {"closed": "<&-", "empty": "</dev/null", "with all closed": "<&- >&- 2>&-"}[how]
    for step in ("prepare begin", "release end", "reconnect begin"):
        command = f"'{installed}' ci {step} - {redirected}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_hook_as_it_is_installed(installed: Path, root: Volume) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(installed), *words],
            input=xml(root),
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )

    assert call("ci", "prepare", "begin", "-").returncode == 0
    assert root.state == "started"
    with by_another_process(root.path):
        again = call("ci", "prepare", "begin", "-")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("lifecycle: ci/root is started: cannot start: ")
    ended = call("ci", "release", "end", "shutdown")
    assert (ended.returncode, ended.stderr) == (0, "lifecycle: ci/root: release: nothing kept\n")
    assert root.state == "created"


def test_for_a_vm_with_none_of_our_disks_nearly_nothing_is_loaded(root: Volume) -> None:
    script = (
        "import sys; from lifecycle.hosts.libvirt.hook import run;"
        "status = run(['ci', 'prepare', 'begin', '-']); print(status, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        input=xml("/var/lib/libvirt/images/other.qcow2"),
        text=True,
        capture_output=True,
        check=True,
    )
    status, *modules = done.stdout.split()
    ours = {one for one in modules if one.partition(".")[0] == "lifecycle"}
    rooms = {"lifecycle", "lifecycle.hosts", "lifecycle.hosts.libvirt", "lifecycle.linux"}
    gate = {"lifecycle.hosts.libvirt.hook", "lifecycle.hosts.libvirt.xml"}
    assert (status, ours) == ("0", rooms | gate | {"lifecycle.linux.fast_exit"})
    assert {"typing", "re", "logging", "blinker", "transitions", "click"}.isdisjoint(modules)
