"""The command line on content: import, export and clone; files, pipes, other volumes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle import Pool
from support.command_line import SHOW, Call, begin, call_apart, check_shape, finish
from support.disks import MIB, SIZE, cycle, disk, draw, seen


def test_what_is_imported_is_exported(call: Call, xfs_pool: Pool, tmp_path: Path) -> None:
    xfs_pool.create_volume("ci/root", "1M")
    content = os.urandom(70_000).ljust(MIB, b"\0")
    (tmp_path / "in").write_bytes(content)
    assert call("import", "ci/root", str(tmp_path / "in")).out == (
        "ci/root: committed as 1, 1 MiB\n"
    )
    check_shape(call("import", "ci/root", str(tmp_path / "in"), "--json").document, SHOW)
    assert call("export", "ci/root", str(tmp_path / "out")).out == (
        f"ci/root: exported to {tmp_path / 'out'}, 1 MiB\n"
    )
    assert (tmp_path / "out").read_bytes() == content
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_export_of_a_revision(call: Call, xfs_pool: Pool, tmp_path: Path) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    out = tmp_path / "out"
    document = call("export", "ci/root", str(out), "--revision", "1", "--json").document
    assert document == {"id": "ci/root", "revision": 1, "size": SIZE, "file": str(out)}
    assert out.read_bytes() == disk(b"one")


def test_export_replaces_a_file_only_when_told(call: Call, xfs_pool: Pool, tmp_path: Path) -> None:
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"one")
    out = tmp_path / "out"
    out.write_bytes(b"mine")
    complaint = call("export", "ci/root", str(out), status=1).complaint
    assert str(out) in complaint
    assert "already" in complaint
    assert "--force" in complaint
    assert out.read_bytes() == b"mine"
    call("export", "ci/root", str(out), "--force")
    assert out.read_bytes() == disk(b"one")


def test_export_while_the_vm_runs_is_the_state_before_its_start(
    call: Call, xfs_pool: Pool, tmp_path: Path
) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"before")
    volume.start()
    draw(volume, b"during")
    call("export", "ci/root", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == disk(b"before")


BEFORE_START = "ci/root is running: this is what it held before its start"


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    "words",
    ["clone ci/root new/root", "import other/root ci/root", "export ci/root OUT --force"],
    ids=lambda words: words.split()[0],
)
def test_what_is_taken_of_a_running_volume_is_said(
    call: Call, xfs_pool: Pool, tmp_path: Path, words: str, running: bool
) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    xfs_pool.create_volume("other/root", SIZE)
    cycle(volume, b"before")
    if running:
        volume.start()
        draw(volume, b"during")
    given = words.replace("OUT", str(tmp_path / "out")).split()
    assert (BEFORE_START in call(*given).out.splitlines()) is running
    if given[0] == "clone":
        xfs_pool["new/root"].remove()
    assert call(*given, "--json").document.get("before_start", False) is running


def test_what_is_streamed_of_a_running_volume_is_said_beside_it(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"before")
    assert call_apart("export", "ci/root", "-").err == ""
    volume.start()
    called = call_apart("export", "ci/root", "-")
    assert (called.out.encode(), called.err) == (disk(b"before"), f"lifecycle: {BEFORE_START}\n")


def test_a_revision_asked_for_by_its_number_is_what_it_is(
    call: Call, xfs_pool: Pool, tmp_path: Path
) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    volume.start()
    words = ("export", "ci/root", str(tmp_path / "out"), "--revision", "1")
    assert "before_start" not in call(*words, "--json").document


def test_content_goes_through_pipes(xfs_pool: Pool) -> None:
    content = os.urandom(300_000).ljust(MIB, b"\0")
    for volume_id in ("ci/root", "ci/copy"):
        xfs_pool.create_volume(volume_id, "1M")
    with begin("import", "ci/root", "-", stdin=-1, text=False) as process:
        process.communicate(content)  # type: ignore[arg-type]
    assert process.returncode == 0
    with (
        begin("export", "ci/root", "-", text=False) as source,
        begin("import", "ci/copy", "-", "--json", stdin=source.stdout) as target,
    ):
        imported = finish(target)
    assert source.returncode == 0
    assert imported.document["size"] == MIB
    assert seen(xfs_pool["ci/copy"]) == content


def test_an_image_and_json_do_not_share_standard_output(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", "1M")
    called = call("export", "ci/root", "-", "--json", status=2)
    assert "--json" in called.said
    assert "standard output" in called.document["error"]["message"]


def test_clone_of_a_volume_and_of_an_image(
    call: Call, xfs_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"one")
    assert call("clone", "ci/root", "new/root").out == "new/root: cloned from ci/root, 128 KiB\n"
    assert seen(xfs_pool["new/root"]) == disk(b"one")
    (tmp_path / "image").write_bytes(disk(b"two"))
    monkeypatch.chdir(tmp_path)
    for volume_id, path in {"new/data": "./image", "new/more": str(tmp_path / "image")}.items():
        document = call("clone", path, volume_id, "--read-only", "--json").document
        check_shape(document, SHOW)
        assert (document["kind"], document["rw"]) == ("persistent", False)
        assert seen(xfs_pool[volume_id]) == disk(b"two")


def test_a_clone_of_standard_input(xfs_pool: Pool) -> None:
    for volume_id, origin in {"ci/root": "-", "ci/more": "/dev/stdin"}.items():
        called = call_apart("clone", origin, volume_id, given="x" * 1000)
        assert called.status == 0, called
        assert seen(xfs_pool[volume_id]) == b"x" * 1000 + bytes(24)
    assert "empty" in call_apart("clone", "-", "ci/none", given="").complaint
    assert "ci/none" not in xfs_pool
