"""The command line on revisions: the timeline, pins and labels, forgetting, retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from lifecycle import Pool, Volume
from support.command_line import Call
from support.disks import MIB, cycle, draw, numbers

FIRST = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A volume with revisions 1 to 3 and the current image 4, each made a day after the one before."""
    made = xfs_pool.create_volume("ci/root", MIB, keep="all")
    for day in range(4):
        with freeze_time(FIRST + timedelta(days=day)):
            cycle(made, b"%d" % day)
    return made


def timeline(text: str) -> list[str]:
    """Return the lines below the first, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()[1:]]


def points(text: str) -> dict[str, str]:
    """Return the timeline's points by the number beside each."""
    return {line.split()[1]: line.split()[0] for line in timeline(text)}


# ---------------------------------------------------------------- log


def test_log_shows_what_was_made_when_and_marks_the_current_one(call: Call, volume: Volume) -> None:
    volume.pin(2)
    volume.label(2, "before the upgrade")
    text = call("log", "ci/root").out
    assert text.splitlines()[0] == "ci/root  committed  1 MiB"
    assert timeline(text) == [
        "○ 0 born empty",
        "○ 1 2026-01-02 03:04:05 commit 1 MiB",
        "○ 2 2026-01-03 03:04:05 commit 1 MiB pinned before the upgrade",
        "○ 3 2026-01-04 03:04:05 commit 1 MiB",
        "● 4 2026-01-05 03:04:05 commit 1 MiB current",
    ]


def test_log_marks_what_a_revert_went_back_to(call: Call, volume: Volume) -> None:
    volume.revert(to=2)
    assert points(call("log", "ci/root").out) == dict(zip("01234", "○○●○○", strict=True))
    volume.revert(to=0)
    assert points(call("log", "ci/root").out) == dict(zip("01234", "●○○○○", strict=True))


def test_log_shows_the_vm_that_runs(call: Call, volume: Volume) -> None:
    volume.start()
    assert timeline(call("log", "ci/root").out)[-1] == f"◌ now VM {volume.path}"
    draw(volume, b"more")
    assert "dirty" in call("log", "ci/root").out.splitlines()[0]


def test_log_as_json_is_the_document_of_show(call: Call, volume: Volume) -> None:
    document = call("log", "ci/root", "--json").document
    assert document == call("show", "ci/root", "--json").document
    assert [one["number"] for one in document["revisions"]] == [1, 2, 3]


# ---------------------------------------------------------------- pin, label


def test_pin_and_unpin(call: Call, volume: Volume) -> None:
    assert call("pin", "ci/root", "2").out == "ci/root: 2 is pinned\n"
    document = call("pin", "ci/root", "3", "--json").document
    assert [one["pinned"] for one in document["revisions"]] == [False, True, True]
    assert call("unpin", "ci/root", "2").out == "ci/root: 2 is not pinned\n"
    document = call("unpin", "ci/root", "3", "--json").document
    assert [one["pinned"] for one in document["revisions"]] == [False, False, False]


def test_label_puts_words_to_a_revision_and_takes_them_away(call: Call, volume: Volume) -> None:
    assert call("label", "ci/root", "1", "as delivered ✓").out == (
        "ci/root: 1 is labelled 'as delivered ✓'\n"
    )
    document = call("label", "ci/root", "2", "next", "--json").document
    assert [one["label"] for one in document["revisions"]] == ["as delivered ✓", "next", None]
    assert call("label", "ci/root", "1").out == "ci/root: 1 has no label\n"
    assert volume.revisions[0].label is None


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31mred", "x" * 201, "tab\there"])
def test_a_label_is_one_line_of_words(call: Call, volume: Volume, text: str) -> None:
    assert "one line of at most 200" in call("label", "ci/root", "1", text, status=2).complaint
    assert volume.revisions[0].label is None


@pytest.mark.parametrize("command", ["pin", "unpin", "label", "forget"])
def test_a_revision_that_is_not_there_is_named_with_those_that_are(
    call: Call, volume: Volume, command: str
) -> None:
    assert call(command, "ci/root", "7", status=1).complaint == (
        "lifecycle: ci/root has no revision 7. Its revisions: 1, 2, 3.\n"
    )


@pytest.mark.parametrize("command", ["pin", "unpin", "label", "forget"])
@pytest.mark.parametrize("number", ["one", "1.0", "", "-1"])
def test_a_number_that_is_none_is_wrong_usage(
    call: Call, volume: Volume, command: str, number: str
) -> None:
    call(command, "ci/root", number, status=2)
    assert numbers(volume) == [1, 2, 3]


# ---------------------------------------------------------------- forget


def test_forget_deletes_revisions(call: Call, volume: Volume) -> None:
    assert call("forget", "ci/root", "3", "1", "3").out == "ci/root: forgot 1, 3\n"
    assert numbers(volume) == [2]
    document = call("forget", "ci/root", "2", "--json").document
    assert document["revisions"] == []
    assert document["current"] == 4


@pytest.mark.parametrize(
    ("keeps", "given", "said"),
    [
        ("pin", ("1", "2"), "pinned; unpin it first"),
        ("revert", ("1", "2"), "it is what the volume holds"),
        ("nothing", ("1", "4"), "it is what the volume holds"),
    ],
)
def test_forget_is_all_or_none(
    call: Call, volume: Volume, keeps: str, given: tuple[str, ...], said: str
) -> None:
    {"pin": volume.pin, "revert": volume.revert, "nothing": lambda _number: None}[keeps](2)
    before = numbers(volume)
    assert said in call("forget", "ci/root", *given, status=3).complaint
    assert numbers(volume) == before


# ---------------------------------------------------------------- prune


def test_a_dry_run_shows_what_would_go_and_why_not(call: Call, volume: Volume) -> None:
    volume.configure(keep="last 1")
    volume.pin(1)
    assert call("prune", "--dry-run").out.splitlines() == [
        "ci/root: would remove 1, keeps 2",
        "  keep        1  pinned",
        "  remove      2  not in `last 1`",
        "  keep        3  last 1",
    ]
    assert call("prune", "ci", "--dry-run", "--json").document == [
        {
            "id": "ci/root",
            "revisions": [
                {"number": 1, "keep": True, "reasons": ["pinned"]},
                {"number": 2, "keep": False, "reasons": ["not in `last 1`"]},
                {"number": 3, "keep": True, "reasons": ["last 1"]},
            ],
        }
    ]
    assert numbers(volume) == [1, 2, 3]


def test_prune_removes_what_is_not_kept(call: Call, volume: Volume) -> None:
    volume.configure(keep="last 1")
    assert call("prune").out == "ci/root: removed 2, keeps 1\n"
    assert numbers(volume) == [3]
    (plan,) = call("prune", "ci/root", "--json").document
    assert plan == {
        "id": "ci/root",
        "revisions": [{"number": 3, "keep": True, "reasons": ["last 1"]}],
    }


def test_prune_is_of_the_targets_only(call: Call, volume: Volume) -> None:
    other = volume.pool.create_volume("db/root", MIB, keep="all")
    for mark in (b"one", b"two"):
        cycle(other, mark)
    for one in (volume, other):
        one.configure(keep="last 0")
    call("prune", "db")
    assert (numbers(volume), numbers(other)) == ([1, 2, 3], [])
    assert [one["id"] for one in call("prune", "--json").document] == ["ci/root", "db/root"]
    assert numbers(volume) == []
