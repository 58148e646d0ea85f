"""The docs say what the product does: what is generated is fresh, what is shown is real."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lifecycle.cli.app import COMMANDS
from lifecycle.cli.settings import SETTABLE
from lifecycle.config import PoolConfig
from support.mounts import FileSystem

ROOT = Path(__file__).parents[2]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def test_the_page_of_commands_is_fresh() -> None:
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == load(ROOT / "docs" / "write_commands.py").page(), "run `make docs`"


def test_every_command_is_documented() -> None:
    written = (ROOT / "docs" / "commands.md").read_text()
    for names in COMMANDS.values():
        for name in names:
            assert re.search(rf"^### {name}( \w+)?$", written, re.MULTILINE)


def test_every_setting_is_documented() -> None:
    written = (ROOT / "docs" / "settings.md").read_text()
    for name in PoolConfig._fields:
        assert f"| `{name}` |" in written
    for name in SETTABLE:
        assert f"`{name}`" in written.partition("## A volume's")[2]


@pytest.mark.parametrize(
    "page", ["README.md", "docs/signals.md", "docs/retention.md", "docs/plugins.md"]
)
def test_python_in_the_docs_runs(page: str, xfs: FileSystem) -> None:
    codes = blocks((ROOT / page).read_text(), "python")
    assert codes
    for code in codes:
        place = f"{xfs.new_directory()}/vms"
        exec(compile(code.replace("/srv/vms", place), page, "exec"), {})


PAGES = sorted(
    str(one.relative_to(ROOT))
    for below in (".", "docs", "tests", "benchmarks")
    for one in (ROOT / below).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", here.read_text()):
        if "://" not in link:
            there = here.parent / link if link else here
            assert there.exists(), link
            assert not anchor or anchor in anchors(there.read_text()), anchor


SOURCES = [f"/{one.relative_to(ROOT)}" for one in ROOT.rglob("*.py") if ".venv" not in one.parts]


@pytest.mark.parametrize("page", PAGES)
def test_the_modules_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / page).read_text())
    assert [one for one in named if not any(path.endswith(f"/{one}") for path in SOURCES)] == []


def anchors(page: str) -> set[str]:
    """Return what a page's headings are linked to by."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


BOOT = """\
#!/bin/sh
# plays a VM: it writes to the disks that it is given
for disk; do printf 'booted' | dd of="$disk" conv=notrunc status=none; done
"""


def test_the_page_of_hosts_shows_what_the_commands_print(
    xfs: FileSystem, tmp_path: Path, settings: Path
) -> None:
    place = xfs.new_directory()
    boot = tmp_path / "boot"
    boot.write_text(BOOT)
    boot.chmod(0o755)
    shown = "".join(blocks((ROOT / "docs" / "hosts.md").read_text(), "console"))
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", shown, re.MULTILINE)
    assert commands
    for command, output in commands:
        done = subprocess.run(
            [
                "sh",
                "-c",
                command.replace("/srv", str(place)).replace("/etc/lifecycle", str(settings)),
            ],
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "LIFECYCLE_POOL": f"{place}/vms",
            },
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            umask=0o022,  # a hook that others may write to is not run
        )
        printed = done.stdout.replace(str(place), "/srv").replace(str(settings), "/etc/lifecycle")
        assert without_times_and_places(printed) == without_times_and_places(output), command


def without_times_and_places(text: str) -> list[str]:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"[\d.]+ .iB free", "ROOM free", text)
    text = re.sub(r" +[\d.]+ KiB", " SOME", text)
    text = re.sub(r"/\S*lifecycle-demo\.\w+(/vms)?", "POOL", text)
    return [line.rstrip() for line in text.splitlines()]


def test_the_demo_prints_what_the_readme_shows(mounted: Callable[[str], FileSystem]) -> None:
    """Run on a file system without reflinks, so that the demo embeds an XFS."""
    done = subprocess.run(
        [ROOT / "examples" / "demo"],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(mounted("plain").new_directory()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    printed = without_times_and_places(re.sub(r"\x1b\[\d*m", "", done.stdout))
    shown = next(b for b in blocks((ROOT / "README.md").read_text(), "console") if "log" in b)
    end = without_times_and_places(shown)
    assert printed[-len(end) :] == end  # all of it, and not a choice of lines
    assert "plain sparse copies" not in done.stdout
