"""What a qubes.xml makes of a tree's volumes; and reading one without trusting it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle import InvalidConfig, Pool, State
from lifecycle.adopt import qubes_xml
from support import foreign_trees
from support.command_line import Call
from support.disks import SIZE
from support.mounts import FileSystem
from support.snapshots import snapshot

SIZED = f'size="{SIZE}"'


@pytest.fixture
def tree(xfs: FileSystem) -> Path:
    """The tree of the file-reflink driver."""
    return foreign_trees.lay(xfs.new_directory() / "qubes", foreign_trees.FILES)


def adopted(call: Call, tree: Path, volumes: dict[str, str], *words: str, **xml: Any) -> Any:
    """Adopt with what a qubes.xml says, and return the document."""
    said = foreign_trees.xml(tree, volumes, **xml)
    return call("adopt", str(tree), "--qubes-xml", said, "--yes", "--json", *words).document


def one_of(document: Any, volume_id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["volumes"] if one["id"] == volume_id)
    return found


def notes_on(document: Any, path: str) -> list[str]:
    return [one["text"] for one in document["notes"] if one["path"] == path]


# ---------------------------------------------------------------- kinds

PRIVATE, ROOT, VOLATILE = "appvms/foo/private", "appvms/foo/root", "appvms/foo/volatile"
FEDORA, NEW = "vm-templates/fedora/root", "appvms/new/root"
FROM_FEDORA = f'snap_on_start="True" source="{FEDORA}"'
CASES = {
    # the volume, what is said: its kind, state and source, and a word of its remarks
    "persistent": (PRIVATE, 'save_on_stop="True"', "persistent", "dirty", None, ""),
    "read-only": (FEDORA, 'save_on_stop="True" rw="False"', "persistent", "committed", None, ""),
    "disposable": (ROOT, FROM_FEDORA, "disposable", "dirty", FEDORA, "are not used"),
    "volatile": (VOLATILE, SIZED, "volatile", "dirty", None, ""),
    "volatile, its size not said": (VOLATILE, "", "volatile", "dirty", None, ""),
    "volatile, with content": (FEDORA, "", "volatile", "committed", None, "--to empty"),
    "volatile, with an empty image": (
        "vm-templates/fedora/private", "", "volatile", "created", None, "",
    ),
    "disposable at rest": (NEW, FROM_FEDORA, "disposable", "created", FEDORA, ""),
    "volatile at rest": (NEW, SIZED, "volatile", "created", None, ""),
    "both flags": (
        ROOT, f'save_on_stop="True" {FROM_FEDORA}', "persistent", "dirty", None, "not followed",
    ),
    "no source": (ROOT, 'snap_on_start="True"', "persistent", "dirty", None, "without a source"),
    "no such source": (
        ROOT, 'snap_on_start="True" source="no/where"', "disposable", "dirty", "no/where", "nowhere",
    ),
    "a source that cannot be": (
        ROOT, 'snap_on_start="True" source="../x"', "persistent", "dirty", None, "cannot be",
    ),
    "a source but no snap_on_start": (
        FEDORA, 'save_on_stop="True" source="a/b"', "persistent", "committed", None, "left out",
    ),
    "a size of its own": (
        FEDORA, 'save_on_stop="True" size="4096"', "persistent", "committed", None, "4096",
    ),
    "ephemeral": (VOLATILE, 'ephemeral="True"', "volatile", "dirty", None, "unencrypted"),
    "not ephemeral": (VOLATILE, 'ephemeral="False"', "volatile", "dirty", None, ""),
    "something unknown": (VOLATILE, 'colour="red"', "volatile", "dirty", None, "`colour` = 'red'"),
    "a flag that is none": (VOLATILE, 'rw="maybe"', "volatile", "dirty", None, "`rw` = 'maybe'"),
    "a size that is none": (VOLATILE, 'size="-1"', "volatile", "dirty", None, "`size` = '-1'"),
    "a count that is none": (
        VOLATILE, 'revisions_to_keep="-1"', "volatile", "dirty", None, "`revisions_to_keep`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_a_volume(call: Call, tree: Path, case: str) -> None:
    volume_id, said, kind, state, source, remark = CASES[case]
    planned = one_of(adopted(call, tree, {volume_id: said}), volume_id)
    assert (planned["kind"], planned["state"], planned["source"]) == (kind, state, source)
    assert planned["rw"] == ('rw="False"' not in said)
    if remark:
        assert any(remark in one for one in planned["remarks"])
    else:
        assert planned["remarks"] == []
    volume = Pool.open(tree)[volume_id]
    assert (volume.kind, volume.state, volume.config.source) == (kind, state, source)
    assert [one for one in volume.pool.verify() if one.harmful] == []


def test_a_volatile_volume_with_content_can_be_emptied(call: Call, tree: Path) -> None:
    adopted(call, tree, {FEDORA: ""})
    volume = Pool.open(tree)[FEDORA]
    call("revert", FEDORA, "--to", "empty", "--pool", str(tree))
    volume.start()
    assert Path(volume.path).stat().st_blocks == 0


def test_a_source_that_is_a_disposable_itself(call: Call, tree: Path) -> None:
    said = {ROOT: FROM_FEDORA, NEW: f'snap_on_start="True" source="{ROOT}"'}
    planned = one_of(adopted(call, tree, said), NEW)
    assert planned["source"] == FEDORA
    assert planned["remarks"] == [f"its source {ROOT} begins from {FEDORA} itself, which is taken"]
    Pool.open(tree)[NEW].start()


def test_sources_that_lead_round_in_a_circle(call: Call, tree: Path) -> None:
    said = {
        "a/root": 'snap_on_start="True" source="b/root"',
        "b/root": 'snap_on_start="True" source="a/root"',
    }
    document = adopted(call, tree, said)
    for volume_id in said:
        assert any(
            "holds nothing of its own" in one for one in one_of(document, volume_id)["remarks"]
        )
        call("start", volume_id, "--pool", str(tree), status=1)


def test_a_source_in_another_pool(call: Call, tree: Path) -> None:
    more = '<volume name="root" pool="other" vid="vg/fedora" save_on_stop="True"/>'
    said = {ROOT: 'snap_on_start="True" source="vg/fedora"'}
    document = adopted(call, tree, said, more=more)
    (remark,) = [
        one for one in one_of(document, ROOT)["remarks"] if "source" in one and "set" in one
    ]
    assert remark.startswith("its source vg/fedora is in the pool 'other', not here")
    root = Pool.open(tree)[ROOT]
    root.stop()
    assert root.state is State.REVERTED
    assert (
        "its source vg/fedora is absent" in call("start", ROOT, "--pool", str(tree), status=3).err
    )
    call("set", ROOT, f"source={FEDORA}", "--pool", str(tree))
    call("start", ROOT, "--pool", str(tree))


def test_a_source_that_keeps_nothing(call: Call, tree: Path) -> None:
    said = {ROOT: f'snap_on_start="True" source="{VOLATILE}"', VOLATILE: SIZED}
    remarks = one_of(adopted(call, tree, said), ROOT)["remarks"]
    assert f"its source {VOLATILE} is volatile and holds nothing of its own" in remarks


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ('save_on_stop="True"', "it has no image"),
        ("", "its size is not said"),
        (f'save_on_stop="True" {FROM_FEDORA}', "save_on_stop and snap_on_start both"),
    ],
)
def test_a_volume_without_files_of_which_too_little_is_said(
    call: Call, tree: Path, said: str, text: str
) -> None:
    document = adopted(call, tree, {NEW: said})
    assert text in notes_on(document, NEW)[0]
    assert NEW not in Pool.open(tree)
    assert not (tree / "appvms" / "new").exists()


def test_a_damaged_volume_is_no_better_for_what_is_said(call: Call, tree: Path) -> None:
    os.truncate(tree / f"{FEDORA}.img", 0)
    said = foreign_trees.xml(tree, {FEDORA: 'save_on_stop="True" rw="False"', ROOT: FROM_FEDORA})
    called = call("adopt", str(tree), "--qubes-xml", said, "--yes", "--json", status=1)
    fedora, root = (one_of(called.document, one) for one in (FEDORA, ROOT))
    assert "cut short" in fedora["damage"]
    assert any("not written down" in one for one in fedora["remarks"])
    assert any("damaged" in one for one in root["remarks"])


def test_what_was_not_spoken_of(call: Call, tree: Path) -> None:
    document = adopted(call, tree, {FEDORA: 'save_on_stop="True"'})
    assert "does not speak of it" in one_of(document, PRIVATE)["remarks"][0]
    assert one_of(document, PRIVATE)["told_by"] == "images"
    assert one_of(document, FEDORA)["told_by"] == "qubes.xml"


def test_nothing_is_lost_unseen(call: Call, tree: Path) -> None:
    more = f"""
        <volume name="root" pool="here" vid="{FEDORA}" rw="False"/>
        <volume name="root" pool="here" vid="../../etc/passwd" rw="True"/>
        <volume name="root" pool="here" vid="a&#10;b/c" rw="True"/>
        <volume name="kernel" pool="linux-kernel" vid="6.1"/>"""
    document = adopted(
        call, tree, {FEDORA: 'save_on_stop="True"'}, more=more, pool='setup_check="no"'
    )
    assert "twice" in notes_on(document, FEDORA)[0]
    assert "left out" in notes_on(document, "'../../etc/passwd'")[0]
    assert "left out" in notes_on(document, r"'a\nb/c'")[0]
    assert "`setup_check` = 'no'" in notes_on(document, "'here'")[0]
    assert any(
        "other pools" in one["text"] and "linux-kernel" in one["text"] for one in document["notes"]
    )


# ---------------------------------------------------------------- what is kept


def test_what_the_pool_keeps_and_what_a_volume_keeps(call: Call, tree: Path) -> None:
    said = {
        PRIVATE: 'save_on_stop="True" revisions_to_keep="3"',
        ROOT: 'save_on_stop="True" revisions_to_keep="7"',
    }
    document = adopted(call, tree, said, pool='revisions_to_keep="3"')
    pool = Pool.open(tree)
    assert document["keep"] == pool.config.keep == "last 3"
    assert (pool[PRIVATE].config.keep, pool[ROOT].config.keep) == (None, "last 7")
    assert not (tree / f"{PRIVATE}.json").exists()


def test_keep_overrides_both(call: Call, tree: Path) -> None:
    said = {PRIVATE: 'save_on_stop="True" revisions_to_keep="3"'}
    adopted(call, tree, said, "--keep", "all", pool='revisions_to_keep="1"')
    pool = Pool.open(tree)
    assert (pool.config.keep, pool[PRIVATE].config.keep) == ("all", None)


# ---------------------------------------------------------------- which pool


def test_the_pool_is_found_by_its_directory(call: Call, tree: Path) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    said = foreign_trees.xml(tree, foreign_trees.SAID)
    assert call("adopt", str(link), "--qubes-xml", said, "--json").document["path"] == str(link)


def test_or_by_its_name(call: Call, tree: Path) -> None:
    said = foreign_trees.xml(tree, foreign_trees.SAID)
    moved = tree.rename(tree.parent / "moved")
    complaint = call("adopt", str(moved), "--qubes-xml", said, status=2).complaint
    assert "--qubes-pool" in complaint
    assert "'other' (None), 'here' (" in complaint
    words = ["adopt", str(moved), "--qubes-xml", said, "--qubes-pool"]
    assert "no pool named 'nope'" in call(*words, "nope", status=2).complaint
    document = call(*words, "here", "--json").document
    assert one_of(document, ROOT)["kind"] == "disposable"


def test_a_pool_without_the_file(call: Call, tree: Path) -> None:
    assert "--qubes-xml" in call("adopt", str(tree), "--qubes-pool", "here", status=2).complaint


# ---------------------------------------------------------------- the file itself

LAUGHS = b"""<!DOCTYPE qubes [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><qubes>&b;</qubes>"""
BAD_FILES = [
    (b"", "not XML"),
    (b"<qubes>", "not XML"),
    (b"\xff\xfe\0", "not XML"),
    (b"<?xml version='1.0' encoding='no-such'?><qubes/>", "not XML"),
    (b"<qubes a='1' a='2'/>", "not XML"),
    (b"<qubes>&a;</qubes>", "not XML"),
    (LAUGHS, "DOCTYPE"),
    (b"<!DOCTYPE qubes SYSTEM 'file:///etc/passwd'><qubes/>", "DOCTYPE"),
    (b"<domain/>", "not a qubes.xml"),
    (b"<qubes>" + b"<a>" * 5000, "too deep"),
]


@pytest.mark.parametrize(("content", "said"), BAD_FILES)
def test_a_file_that_is_no_qubes_xml(call: Call, tree: Path, content: bytes, said: str) -> None:
    file = tree.parent / "bad.xml"
    file.write_bytes(content)
    before = snapshot(tree)
    complaint = call("adopt", str(tree), "--qubes-xml", str(file), "--yes", status=2).complaint
    assert said in complaint
    assert str(file) in complaint
    assert snapshot(tree) == before


def test_a_file_that_is_too_long(call: Call, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qubes_xml, "MAX_BYTES", 100)
    said = foreign_trees.xml(tree, foreign_trees.SAID)
    assert "is longer than" in call("adopt", str(tree), "--qubes-xml", said, status=2).complaint


def test_a_file_that_is_not_there(call: Call, tree: Path) -> None:
    assert (
        "No such file" in call("adopt", str(tree), "--qubes-xml", "/no/where", status=1).complaint
    )


@settings(derandomize=True, database=None, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(
            lambda one: f"<qubes>{one}</qubes>".encode(errors="surrogatepass")
        ),
    )
)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        found = qubes_xml.parse("it", content)
    except InvalidConfig:
        return
    assert found.volumes == ()


ATTRIBUTES = st.dictionaries(
    st.sampled_from(["vid", "pool", "size", "rw", "source", "revisions_to_keep", "new"]),
    st.text(st.sampled_from("0123456789TrueFals/-.²٣é"), max_size=30),
)


@settings(derandomize=True, database=None, deadline=None)
@given(ATTRIBUTES)
def test_every_attribute_is_understood_or_remarked_on(attributes: dict[str, str]) -> None:
    said = " ".join(f'{name}="{text}"' for name, text in attributes.items())
    content = f"<qubes><domains><domain><volume-config><volume {said}/></volume-config></domain></domains></qubes>"
    (volume,) = qubes_xml.parse("it", content.encode()).volumes
    for name, text in attributes.items():
        is_remarked = any(f"`{name}`" in remark for remark in volume.remarks)
        assert is_remarked or str(getattr(volume, name)) in {
            text,
            str(text in {"True", "true", "1"}),
            text.lstrip("0") or "0",
        }
