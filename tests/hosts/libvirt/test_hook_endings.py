"""libvirt's hook, called as libvirtd calls it when a VM ends, is saved or is restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle import Pool, Volume
from lifecycle.engine import batch
from lifecycle.engine.endings import Ending, unfinished
from lifecycle.hosts.libvirt import domain_events
from lifecycle.hosts.libvirt import hook as hook_
from support.disks import SIZE, disk, draw, seen, seen_by_vm
from support.failing_backend import backend_fails
from support.libvirt_hook import OTHER, UUID, Hook, xml

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
