"""The command `diagram`."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from lifecycle import Pool, State
from support.command_line import Call
from support.disks import SIZE, cycle

FORMATS = ["mermaid", "dot", "svg", "table"]
BEGINNINGS = {"mermaid": "stateDiagram", "dot": "digraph", "svg": "<svg", "table": "|"}


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_shows_every_state(call: Call, form: str) -> None:
    text = call("diagram", "--format", form).out
    assert BEGINNINGS[form] in text
    for state in set(State) - {State.ABSENT}:  # which Mermaid shows as its beginning
        assert state in text


def test_mermaid_is_the_default(call: Call) -> None:
    assert call("diagram").out == call("diagram", "--format", "mermaid").out


def test_the_svg_is_xml(call: Call) -> None:
    root = ElementTree.fromstring(call("diagram", "--format", "svg").out)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("form", FORMATS)
def test_json_holds_the_diagram(call: Call, form: str) -> None:
    document = call("diagram", "--format", form, "--json").document
    assert set(document) == {"format", "state", "diagram"}
    assert (document["format"], document["state"]) == (form, None)
    assert document["diagram"].rstrip("\n") == call("diagram", "--format", form).out.rstrip("\n")


@pytest.mark.parametrize("form", ["mermaid", "dot", "svg"])
def test_the_state_of_a_volume_is_marked(call: Call, xfs_pool: Pool, form: str) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    created = call("diagram", "ci/root", "--format", form, "--json").document
    cycle(volume, b"one")
    committed = call("diagram", "ci/root", "--format", form, "--json").document
    plain = call("diagram", "--format", form, "--json").document
    assert (created["state"], committed["state"]) == ("created", "committed")
    assert len({one["diagram"] for one in (plain, created, committed)}) == 3


def test_svg_lights_the_state_of_a_volume(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", SIZE).start()
    groups = list(ElementTree.fromstring(call("diagram", "ci/root", "--format", "svg").out).iter())
    lit = [one.get("data-state") for one in groups if "lit" in one.get("class", "").split()]
    faded = {one.get("data-event") for one in groups if "faded" in one.get("class", "").split()}
    assert lit == ["started"]
    assert {"create", "commit", "remove"} <= faded
    assert not {"write", "release", "checkpoint"} & faded


def test_without_a_volume_no_pool_is_needed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_POOL", "/nonexistent")
    assert call("diagram").out
    assert "no such directory" in call("diagram", "ci/root", status=1).complaint
