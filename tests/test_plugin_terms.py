"""Retention terms of other packages: the example, installed as a user would, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lifecycle
from support.installed_packages import add

ROOT = Path(lifecycle.__file__).parents[1]
EXAMPLE = Path(__file__).parents[1] / "examples" / "lifecycle-weekends"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory into which the example is installed, and beside it packages that fail in many ways."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)],
        check=True,
        timeout=120,
    )
    add(target, "bad_import", "raise ImportError('bad_import is broken')", "broken")
    add(
        target,
        "bad_keeps",
        "import os\ndef term(argument, zone):\n"
        "    return lambda candidates, now: 1 / 0 if 'SPOILED' in os.environ else {}",
        "bad",
    )
    add(target, "one", "def term(argument, zone): ...", "twice")
    add(target, "other", "def term(argument, zone): ...", "twice")
    add(
        target,
        "foreign",
        "raise ImportError('foreign is broken')",
        "weekends",
        group="another.group",
    )
    return target


def run(installed: Path, code: str, *arguments: str) -> object:
    """Run this code where the packages are installed, and return what it leaves in `result`."""
    path = f"sys.path[:0] = [{str(installed)!r}, {str(ROOT)!r}]"
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-c"),
            f"import json, sys\n{path}\n{code}\nprint(json.dumps(result))",
            *arguments,
        ],
        check=True,
        timeout=60,
        text=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(done.stdout)


PLAN = """
class Imports:
    names = set()

    def find_spec(self, name, path, target=None):
        self.names.add(name)  # and leave the finding to others

sys.meta_path.insert(0, Imports())

from datetime import datetime, timedelta
from lifecycle import InvalidPolicy, Revision, policies

# one each day from 1, Monday 2026-03-02, to 20, Saturday 2026-03-21, at 23:30 UTC
first = datetime.fromisoformat("2026-03-02T23:30Z")
history = [Revision(1 + days, first + timedelta(days=days)) for days in range(20)]
now = first + timedelta(days=20)
try:
    plan = policies.parse(sys.argv[1], sys.argv[2]).plan(history, now)
    answer = {one.number: one.reasons for one in plan.verdicts if one.keep}
except InvalidPolicy as error:
    answer = error.reason
ours = {"lifecycle_weekends", "bad_import", "bad_keeps", "one", "other", "foreign"}
result = [answer, sorted(ours & Imports.names)]
"""


@pytest.mark.parametrize(
    ("line", "zone", "kept"),
    [
        ("weekends 1", "UTC", {"20": ["weekend of 2026 week 12"]}),
        (
            "2 weekends",
            "UTC",
            {"14": ["weekend of 2026 week 11"], "20": ["weekend of 2026 week 12"]},
        ),
        (
            "last 1, weekends 9",
            "UTC",
            {
                "7": ["weekend of 2026 week 10"],
                "14": ["weekend of 2026 week 11"],
                "20": ["last 1", "weekend of 2026 week 12"],
            },
        ),
        (
            "weekends 9, monthly 1",  # in Berlin each was made half past midnight of the next day
            "Europe/Berlin",
            {
                "6": ["weekend of 2026 week 10"],
                "13": ["weekend of 2026 week 11"],
                "20": ["weekend of 2026 week 12", "monthly 2026-03"],
            },
        ),
        ("weekends 0", "UTC", {}),
    ],
)
def test_the_examples_term_works_and_only_it_is_imported(
    line: str, zone: str, kept: dict[str, list[str]], installed: Path
) -> None:
    assert run(installed, PLAN, line, zone) == [kept, ["lifecycle_weekends"]]


def test_a_line_of_built_in_terms_imports_no_plugin(installed: Path) -> None:
    line = "last 1, 1 hourly, 1 daily, 1 weekly, 1 monthly, 1 yearly, within 1h"
    kept, imported = run(installed, PLAN, line, "UTC")
    assert list(kept) == ["20"]
    assert imported == []


WEEKENDS = "`weekends` (lifecycle_weekends:weekends of lifecycle-weekends 1.0)"


@pytest.mark.parametrize(
    ("line", "complaint", "imported"),
    [
        ("weekends", f"the plugin {WEEKENDS} refused it: it needs a count", ["lifecycle_weekends"]),
        (
            "weekends -1",
            f"the plugin {WEEKENDS} refused it: it needs a count",
            ["lifecycle_weekends"],
        ),
        (
            "last 1, broken 2",
            (
                "the plugin `broken` (bad_import:term of bad_import 1) cannot be loaded: it raised"
                " ImportError: bad_import is broken"
            ),
            ["bad_import"],
        ),
        ("twice 1", "more than one installed package offers a term `twice`: `twice` (", []),
        ("weekend 1", "there is no term `weekend`", []),
        ("lifecycle_weekends 1", "there is no term `lifecycle_weekends`", []),
    ],
)
def test_a_term_that_cannot_be_had_is_refused_with_the_reason(
    line: str, complaint: str, imported: list[str], installed: Path
) -> None:
    answer, found = run(installed, PLAN, line, "UTC")
    assert complaint in answer
    assert found == imported


COMMIT = """
import logging
from lifecycle import Pool
logging.disable()
pool = Pool.create(sys.argv[1], keep=sys.argv[2], setup_check=False)
disk = pool.create_volume("vm/disk", "1M")

def commit():
    disk.start()
    with open(disk.path, "r+b") as image:
        image.write(b"written")
    disk.stop()
"""


def test_a_plugin_that_raises_prunes_nothing_and_fails_no_commit(
    installed: Path, tmp_path: Path
) -> None:
    spoil = "import os; os.environ['SPOILED'] = 'yes'; "
    code = (
        COMMIT + spoil + "commit(); commit(); commit(); result = [disk.state, len(disk.revisions)]"
    )
    assert run(installed, code, str(tmp_path / "sound"), "last 0") == ["committed", 0]
    assert run(installed, code, str(tmp_path / "bad"), "last 0, bad 1") == ["committed", 2]


@pytest.mark.parametrize("term", ["broken 1", "uninstalled 1"])
def test_a_volume_whose_plugin_cannot_be_had_any_more_prunes_nothing_and_still_commits(
    term: str, installed: Path, tmp_path: Path
) -> None:
    # its record names a term that was there when it was configured
    code = (
        COMMIT
        + """
disk.configure(keep="last 0, weekends 4")
from pathlib import Path
record = Path(sys.argv[1], "vm", "disk.json")
record.write_text(record.read_text().replace("weekends 4", sys.argv[3]))
assert sys.argv[3] in record.read_text()
commit(); commit(); commit()
result = [disk.state, len(disk.revisions)]
"""
    )
    found = run(installed, code, str(tmp_path / "pool"), "last 0", term)
    assert found == ["committed", 2]
