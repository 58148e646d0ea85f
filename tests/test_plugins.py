"""The one way in which plugins of every kind are found: by name, in the kind's group of entry points."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from unittest import mock

import pytest

from lifecycle import PluginFailed, terms
from lifecycle.engine import registry, wiring
from lifecycle.hosts import host
from lifecycle.plugins import Group, NoSuchPlugin
from support.installed_packages import BACKENDS, HOSTS, RETENTION, TERMS, add

GROUPS: dict[str, Group] = {
    TERMS: terms.TERMS,
    BACKENDS: registry.BACKENDS,
    HOSTS: host.HOSTS,
    RETENTION: wiring.RETENTION,
}


@pytest.fixture(params=GROUPS)
def group(request: pytest.FixtureRequest) -> Group:
    """Each group in turn."""
    return GROUPS[request.param]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which packages are installed, for this process too."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_each_group_is_asked_for_by_the_name_that_packages_know(group: Group) -> None:
    assert GROUPS[group.entry_points] is group


def test_one_is_loaded_and_named(group: Group, packages: Path) -> None:
    add(packages, "plug_one", "term = 'this'", "mine", group.entry_points)
    add(packages, "plug_unasked", "raise ImportError('no one asked')", "other", group.entry_points)
    found = group.find("mine")
    assert (found.value, found.label) == ("this", "`mine` (plug_one:term of plug_one 1)")
    assert {"mine", "other"} <= set(group.names())


def test_one_that_is_not_there_is_refused_with_those_that_are(group: Group, packages: Path) -> None:
    add(packages, "plug_two", "", "other", group.entry_points)
    add(packages, "plug_elsewhere", "", "mine", "another.group")
    with pytest.raises(NoSuchPlugin) as caught:
        group.find("mine", ("known",))
    said = str(caught.value)
    assert said.startswith(f"there is no {group.kind} `mine`: known are known, ")
    known, _, rest = said.partition(": known are ")[2].partition("; ")
    assert rest == f"packages offer others in the entry-point group {group.entry_points}"
    assert {"other", *group.built_in} < set(known.split(", "))


def test_two_packages_with_one_name_are_refused(group: Group, packages: Path) -> None:
    add(packages, "plug_a", "raise ImportError('looked at')", "mine", group.entry_points)
    add(packages, "plug_b", "raise ImportError('looked at')", "mine", group.entry_points)
    with pytest.raises(NoSuchPlugin) as caught:
        group.find("mine")
    assert f"more than one installed package offers a {group.kind} `mine`: " in str(caught.value)
    assert "`mine` (plug_a:term of plug_a 1)" in str(caught.value)
    assert "`mine` (plug_b:term of plug_b 1)" in str(caught.value)


@pytest.mark.parametrize("raised", ["SystemExit(0)", "ImportError('broken')", "Halt()"])
def test_one_that_cannot_be_loaded_is_named(group: Group, packages: Path, raised: str) -> None:
    code = f"class Halt(BaseException): ...\nraise {raised}"
    add(packages, "plug_broken", code, "mine", group.entry_points)
    with pytest.raises(PluginFailed) as caught:
        group.find("mine")
    assert caught.value.plugin == "`mine` (plug_broken:term of plug_broken 1)"
    assert caught.value.problem.startswith(
        f"cannot be loaded: it raised {raised.partition('(')[0]}"
    )


def test_for_what_lifecycle_brings_no_installed_package_is_looked_at(group: Group) -> None:
    with mock.patch.object(metadata, "entry_points", side_effect=AssertionError):
        for name in group.built_in:
            assert group.find(name).label is None
