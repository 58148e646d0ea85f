"""libvirt's hook, called as libvirtd calls it; what a real libvirtd makes of it is in test_libvirt.py."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest

from lifecycle import Pool, Volume
from lifecycle.engine import batch
from lifecycle.engine.endings import Ending, unfinished
from lifecycle.hosts.libvirt import domain_events
from lifecycle.hosts.libvirt import hook as hook_
from lifecycle.machine import known_pools
from support.disks import SIZE, disk, draw, numbers, seen, seen_by_vm
from support.failing_backend import backend_fails
from support.holding_open import by_another_process
from support.mounts import FileSystem

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
OTHER = "5e6b0c1c-1f2c-4bb3-8cf5-0d1f0c1b2a39"
Hook = Callable[..., str]


@pytest.fixture
def vms(xfs: FileSystem) -> Pool:
    pool = Pool.create(xfs.new_directory())
    known_pools.enter(pool.path)
    return pool


@pytest.fixture
def root(vms: Pool) -> Volume:
    return vms.create_volume("ci/root", SIZE)


@pytest.fixture
def same_pool(vms: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The pool; the hook, which opens its own, gets this one, of which something can be made to fail."""
    monkeypatch.setattr(Pool, "open", lambda _path: vms)
    return vms


def xml(*disks: Volume | str, name: str = "ci", uuid: str = UUID, more: str = "") -> str:
    paths = [one.path if isinstance(one, Volume) else one for one in disks]
    sources = "".join(f"<disk><source file={quoteattr(path)}/></disk>" for path in paths)
    return (
        f"<domain><name>{escape(name)}</name><uuid>{uuid}</uuid>"
        f"<devices>{sources}</devices>{more}</domain>"
    )


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Hook:
    """Return a function that calls the hook with XML, expects its exit status, and returns what it complains of."""

    def hook(step: str, content: str | bytes, reason: str = "-", *, status: int = 0) -> str:
        given = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(complaints := io.BytesIO()))
        phase = "end" if step in {"stopped", "release"} else "begin"
        found = hook_.run(["ci", step, phase, reason])
        assert capfdbinary.readouterr().out == b""
        sys.stderr.flush()
        said = complaints.getvalue().decode()
        assert found == status, said
        assert len(said.splitlines()) == status
        return said

    return hook


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


# ---------------------------------------------------------------- ending

ENDS = {
    # reason: state after writing, with the crash policy `commit`; cause of the revision
    "shutdown": ("committed", "commit"),
    "destroyed": ("committed", "commit"),
    "crashed": ("committed", "crash"),
    "daemon": ("committed", "crash"),
    "unknown": ("committed", "crash"),
    "failed": ("committed", "crash"),
    "saved": ("dirty", None),
    "migrated": ("dirty", None),
    "from snapshot": ("dirty", None),
    "one of a later libvirt": ("committed", "commit"),
}


@pytest.mark.parametrize(("reason", "expected"), ENDS.items(), ids=ENDS)
def test_the_volumes_end_by_the_reason(
    vms: Pool, hook: Hook, reason: str, expected: tuple[str, str | None]
) -> None:
    volume = vms.create_volume("ci/root", SIZE, on_crash="commit")
    hook("prepare", xml(volume))
    draw(volume, b"written")
    hook("stopped", xml(volume), reason)
    hook("release", xml(volume), reason)
    history = volume.history
    assert (volume.state, history[-1].cause if history else None) == expected


STATUSES = {
    "<domstatus state='shutdown'><job async='none'/></domstatus>": Ending.STOPPED,
    "<domstatus state='running'><job async='none'/></domstatus>": Ending.CRASHED,
    "<domstatus state='paused'><job async='none'/></domstatus>": Ending.CRASHED,
    "<domstatus state='crashed'/>": Ending.CRASHED,
    "<domstatus state='paused' reason='save'><job async='save'/></domstatus>": Ending.SUSPENDED,
    "<domstatus state='paused'><job async='migration out'/></domstatus>": Ending.SUSPENDED,
    "<domstatus state='running'><job async='migration out'/></domstatus>": Ending.CRASHED,
    "<domstatus state='paused'><job async='start'/></domstatus>": Ending.FAILED,
    "<domstatus state='paused'><job async='migration in'/></domstatus>": Ending.FAILED,
    "<domstatus state='shutoff'/>": None,
    "<domstatus/>": None,
    "<domain/>": None,
    "not xml": None,
    "": None,
}


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libvirt's notes on the VM are."""
    monkeypatch.setattr(domain_events, "STATUS", f"{tmp_path}/{{name}}.xml")
    return tmp_path / "ci.xml"


@pytest.mark.parametrize(("content", "expected"), STATUSES.items(), ids=list(STATUSES))
def test_how_a_vm_ended_by_libvirt_s_own_notes(
    status: Path, content: str, expected: Ending | None
) -> None:
    assert domain_events.ending_by_status("ci") is None
    status.write_text(content)
    assert domain_events.ending_by_status("ci") is expected


def test_a_vm_s_name_that_can_be_no_file_s_has_no_notes(status: Path) -> None:
    for name in ("\0", "x" * 5000, "../ci"):
        assert domain_events.ending_by_status(name) is None


@pytest.mark.parametrize(
    ("notes", "settings_file", "expected"),
    [
        ("<domstatus state='running'/>", None, ("dirty", [])),
        ("<domstatus state='shutdown'/>", 'no_reason = "crashed"', ("committed", [0])),
        ("<domstatus state='paused'><job async='save'/></domstatus>", None, ("dirty", [])),
        (None, None, ("committed", [0])),
        (None, 'no_reason = "stopped"', ("committed", [0])),
        (None, 'no_reason = "crashed"', ("dirty", [])),
        (None, 'no_reason = "saved"', ("committed", [0])),
        (None, "no_reasons = 1", ("committed", [0])),
        (None, "not = toml = ", ("committed", [0])),
    ],
)
def test_without_a_reason_the_notes_tell_and_without_notes_the_settings(
    root: Volume,
    hook: Hook,
    status: Path,
    settings: Path,
    notes: str | None,
    settings_file: str | None,
    expected: tuple[str, list[int]],
) -> None:
    if settings_file is not None:
        (settings / "libvirt.toml").write_text(settings_file)
    hook("prepare", xml(root))
    draw(root, b"written")
    if notes is not None:
        status.write_text(notes)
    hook("stopped", xml(root))
    status.unlink(missing_ok=True)
    hook("release", xml(root))
    assert (root.state, [0] if root.current == 1 else []) == expected


def test_an_end_that_fails_is_carried_out_before_the_next_start(
    same_pool: Pool, root: Volume, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook("prepare", xml(root))
    draw(root, b"written")
    with backend_fails(same_pool, "commit"):
        hook("release", xml(root), "shutdown")
        assert (root.state, unfinished(root)) == ("dirty", Ending.STOPPED)
        assert "ci/root: its VM stopped, but that could not take effect" in caplog.text
        assert "commit failed" in hook("prepare", xml(root), status=1)
    hook("prepare", xml(root))
    assert (root.state, root.current, unfinished(root)) == ("started", 1, None)
    assert seen(root) == disk(b"written")


def test_an_end_is_never_refused_whatever_happens(
    root: Volume, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault\nof ours")

    hook("prepare", xml(root))
    for step in ("stopped", "release", "started"):
        monkeypatch.setitem(domain_events._STEPS, step, fail)
    monkeypatch.setattr(hook_, "GATES", {"release", "stopped", "started", "prepare"})
    assert "ZeroDivisionError" in hook("release", xml(root), status=1)
    monkeypatch.setattr(hook_, "GATES", {"prepare"})
    monkeypatch.setattr(hook_, "_complain", lambda _text: None)
    for step in ("stopped", "release", "started"):
        hook(step, xml(root))


# ---------------------------------------------------------------- saved and restored


@pytest.fixture
def saved(vms: Pool, hook: Hook) -> Volume:
    """The volume of a VM that is saved, with a crash policy that would throw away what it wrote."""
    volume = vms.create_volume("ci/root", SIZE, on_crash="revert")
    hook("prepare", xml(volume))
    draw(volume, b"written")
    hook("release", xml(volume), "saved")
    return volume


def test_a_restored_vm_has_its_images_as_they_were(saved: Volume, hook: Hook) -> None:
    hook("restore", xml(saved))
    hook("prepare", xml(saved))
    hook("started", xml(saved))
    assert (saved.state, seen_by_vm(saved)[:7]) == ("dirty", b"written")
    hook("release", xml(saved), "crashed")
    assert saved.state == "reverted"


def test_a_saved_vm_that_could_not_be_restored_is_saved_still(saved: Volume, hook: Hook) -> None:
    for _attempt in range(2):
        hook("restore", xml(saved))
        hook("prepare", xml(saved))
        hook("release", xml(saved), "failed")
        assert (saved.state, unfinished(saved)) == ("dirty", Ending.SUSPENDED)


def test_a_saved_vm_that_boots_afresh_was_as_good_as_cut_off(saved: Volume, hook: Hook) -> None:
    hook("prepare", xml(saved))
    assert (saved.state, seen_by_vm(saved)) == ("started", bytes(SIZE))


def test_what_a_saved_vm_waits_for_is_no_other_s_even_after_a_reboot(
    saved: Volume, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_boot", lambda: "another")
    said = hook("prepare", xml(saved, name="other", uuid=OTHER), status=1)
    assert f"libvirt's VM ci ({UUID}) is saved, and waits for it" in said
    hook("restore", xml(saved))
    hook("prepare", xml(saved))
    assert (saved.state, seen_by_vm(saved)[:7]) == ("dirty", b"written")


def test_what_a_crash_left_may_be_another_s(root: Volume, hook: Hook) -> None:
    hook("prepare", xml(root))
    draw(root, b"written")
    hook("release", xml(root), "crashed")
    assert root.state == "dirty"
    other = xml(root, name="other", uuid=OTHER)
    hook("prepare", other)
    hook("release", other, "shutdown")
    assert (root.state, seen(root)) == ("committed", disk(b"written"))


def test_a_saved_vm_is_not_restored_on_what_a_later_run_has_written(
    vms: Pool, root: Volume, hook: Hook
) -> None:
    hook("prepare", xml(root))
    hook("release", xml(root), "saved")
    hook("prepare", xml(root))
    draw(root, b"another run")
    hook("release", xml(root), "crashed")
    assert "and that is no more" in hook("restore", xml(root), status=1)
    root.stop()
    assert "ci/root is committed: cannot restore" in hook("restore", xml(root), status=1)
    root.start()  # by hand: whoever does that knows
    hook("restore", xml(root))
    hook("prepare", xml(root))
    assert root.state == "started"


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
    hook = "lifecycle.hosts.libvirt.hook"
    rooms = {"lifecycle", "lifecycle.hosts", "lifecycle.hosts.libvirt", "lifecycle.linux"}
    assert (status, ours) == ("0", rooms | {hook, "lifecycle.linux.fast_exit"})
    assert {"typing", "re", "logging", "blinker", "transitions", "click"}.isdisjoint(modules)
