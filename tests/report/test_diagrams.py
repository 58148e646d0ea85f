"""The rulebook's pictures and table: whole, true, well-formed, and the committed ones fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from lifecycle import State
from lifecycle.report import diagrams
from lifecycle.states import RULES, Rule

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "diagrams"
DRAWN = [state for state in State if state is not State.ABSENT]  # Mermaid's [*] has no box

EDGE = re.compile(r"    (\[\*\]|\w+) --> (\[\*\]|\w+) : ([^:;#<>\"\n]+)")
MERMAID_LINES = (
    re.compile(r"stateDiagram-v2"),
    EDGE,
    re.compile(r"    (\w+) : [^:;#\"]+"),
    re.compile(r"    classDef \w+ [\w-]+:#?\w+(,[\w-]+:#?\w+)*"),
    re.compile(r"    class \w+ \w+"),
)


def led_to() -> dict[tuple[str, str], set[str]]:
    """Return the events between each two states, a state and itself included, as the rules have them."""
    found = defaultdict(set)
    for rule in RULES:
        for source in rule.sources:
            found[source.value, (rule.dest or source).value].add(rule.event.value)
    return dict(found)


def events_in(label: str) -> set[str]:
    """Return the events that a label names, without numbers, signs and conditions."""
    return set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", label)))


def shown(
    edges: list[tuple[str, str, str]], boxes: list[tuple[str, str]]
) -> dict[tuple[str, str], set[str]]:
    """Return the events between each two states, as a picture's edges and boxes (after ↻) show them."""
    found = {}
    for source, dest, label in edges:
        assert (source, dest) not in found
        found[source, dest] = events_in(label)
    for state, text in boxes:
        if "↻" in text:
            found[state, state] = events_in(re.sub(r"<.*?>", " ", text.partition("↻")[2]))
    return found


# ---------------------------------------------------------------- what is committed


def test_the_committed_page_is_fresh() -> None:
    assert (COMMITTED / "volume.md").read_text() == diagrams.page(), "run `make diagrams`"


def test_the_committed_picture_is_fresh() -> None:
    assert (COMMITTED / "volume.svg").read_text() == diagrams.svg(), "run `make diagrams`"


def test_as_a_program_it_writes_both_and_says_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lifecycle.report.diagrams", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(tmp_path / "volume.md"), str(tmp_path / "volume.svg")]
    assert (tmp_path / "volume.md").read_text() == diagrams.page()
    assert (tmp_path / "volume.svg").read_text() == diagrams.svg()


# ---------------------------------------------------------------- whole and true


def test_mermaid_shows_the_rules_and_nothing_else() -> None:
    text = diagrams.mermaid()
    edges = [tuple(one.replace("[*]", "absent") for one in edge) for edge in EDGE.findall(text)]
    boxes = re.findall(r"^    (\w+) : (.*)$", text, re.MULTILINE)
    assert shown(edges, boxes) == led_to()


def test_dot_shows_the_rules_and_nothing_else() -> None:
    text = diagrams.dot()
    edges = re.findall(r"^  (\w+) -> (\w+) \[label=\"(.*?)\"", text, re.MULTILINE)
    boxes = re.findall(r"^  (\w+) \[.*label=<(.*)>\]$", text, re.MULTILINE)
    assert shown(edges, boxes) == led_to()


def test_every_state_is_drawn() -> None:
    assert {*re.findall(r"^  (\w+) \[.*label=", diagrams.dot(), re.MULTILINE)} == {*State}
    assert {*re.findall(r"^    (\w+) : ", diagrams.mermaid(), re.MULTILINE)} == {*DRAWN}


@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: f"{rule.event}-{'-'.join(rule.sources)}-{rule.dest}"
)
def test_each_rule_is_a_row(rule: Rule) -> None:
    rows = diagrams.table().splitlines()[2:]
    assert len(rows) == len(RULES)
    row = rows[RULES.index(rule)]
    event, sources, dest, when, note = row.strip("|").split("|")
    assert event.strip() == rule.event
    assert re.findall(r"`(\w+)`", sources) == [*rule.sources]
    assert dest.strip() == (f"`{rule.dest}`" if rule.dest else "the same")
    assert all(condition.text in when for condition in rule.when)
    assert ("not in use" in when) == rule.unused
    assert bool(when.strip()) == bool(rule.when or rule.unused)
    assert note.strip() == rule.note


def test_a_condition_that_cannot_be_guessed_is_in_the_picture() -> None:
    assert "start (left over)" in diagrams.mermaid()
    assert "start (left over)" in diagrams.dot()


def test_no_event_leads_to_damage_as_the_page_says() -> None:
    assert "No event leads to `damaged`" in diagrams.page()
    assert not [rule for rule in RULES if rule.dest is State.DAMAGED]


# ---------------------------------------------------------------- the road back to the empty disk


def test_the_road_leads_from_nothing_to_the_empty_image() -> None:
    road = {
        label: (source, dest)
        for source, dest, label in EDGE.findall(diagrams.mermaid())
        if not label[0].isascii()
    }
    assert road == {
        "① create": ("[*]", "created"),
        "② start": ("created", "started"),
        "③ write": ("started", "dirty"),
        "④ commit": ("dirty", "committed"),
        "④ revert": ("dirty", "reverted"),
        "⑤ revert": ("committed", "reverted"),
    }


@pytest.mark.parametrize("state", [State.CREATED, State.REVERTED])
@pytest.mark.parametrize("draw", [diagrams.mermaid, diagrams.dot])
def test_both_its_ends_name_the_empty_image(draw: diagrams.Draw, state: State) -> None:
    boxes = re.findall(rf"^ +{state} (?:: |\[).*$", draw(None), re.MULTILINE)
    assert "the empty image" in re.sub(r"<.*?>", " ", " ".join(boxes)).replace("  ", " ")


def test_the_page_tells_the_road_in_three_lines() -> None:
    lines = [line for line in diagrams.page().splitlines() if line.startswith("- ")]
    assert [re.findall(r"[①-⑨] `(\w+)`", line) for line in lines] == [
        ["create", "start", "write"],
        ["revert"],
        ["commit", "revert"],
    ]
    assert lines[0].endswith("The volume is `dirty`.")
    assert all(line.endswith("The volume is `reverted`.") for line in lines[1:])


# ---------------------------------------------------------------- marked


@pytest.mark.parametrize("state", DRAWN)
def test_mermaid_marks_the_state(state: State) -> None:
    assert f"    class {state} marked" in diagrams.mermaid(state).splitlines()
    assert diagrams.mermaid(state).count(" marked\n") == 1


@pytest.mark.parametrize("state", [None, State.ABSENT])
def test_mermaid_marks_nothing_where_there_is_no_box(state: State | None) -> None:
    assert diagrams.mermaid(state) == diagrams.mermaid()
    assert " marked\n" not in diagrams.mermaid()


@pytest.mark.parametrize("state", State)
def test_dot_marks_the_state_and_changes_nothing_else(state: State) -> None:
    changed = {*diagrams.dot(state).splitlines()} - {*diagrams.dot().splitlines()}
    assert [line.split()[0] for line in changed] == [state]


@pytest.mark.parametrize("state", State)
def test_the_table_marks_the_rows_from_the_state(state: State) -> None:
    rows = diagrams.table(state).splitlines()[2:]
    bold = [rule for rule, row in zip(RULES, rows, strict=True) if row.startswith("| **")]
    assert bold == [rule for rule in RULES if state in rule.sources]
    assert [row.replace("**", "") for row in rows] == diagrams.table().splitlines()[2:]


# ---------------------------------------------------------------- well-formed


@pytest.mark.parametrize("marked", [None, *State])
def test_mermaid_is_made_of_what_mermaid_reads(marked: State | None) -> None:
    for line in diagrams.mermaid(marked).splitlines():
        assert any(one.fullmatch(line) for one in MERMAID_LINES), line


def test_mermaid_uses_only_classes_that_it_defines() -> None:
    text = diagrams.mermaid(State.DIRTY)
    defined = re.findall(r"classDef (\w+)", text)
    assert {*re.findall(r"^    class \w+ (\w+)$", text, re.MULTILINE)} == {*defined}


@pytest.mark.parametrize("name", ["mermaid", "dot", "svg", "table"])
def test_each_format_has_its_name(name: str) -> None:
    assert diagrams.FORMATS[name] is getattr(diagrams, name)
