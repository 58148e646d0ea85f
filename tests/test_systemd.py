"""The systemd units that come with the package."""

import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

UNITS = sorted(
    one.name
    for one in files("lifecycle.hosts").joinpath("systemd").iterdir()
    if one.name.startswith("lifecycle")
)


def test_the_package_has_the_unit_for_the_boot_of_a_host():
    assert "lifecycle-recover.service" in UNITS


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        reason = "systemd-analyze is not installed (package systemd)"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    command = tmp_path / "lifecycle"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    text = files("lifecycle.hosts").joinpath("systemd", unit).read_text()
    copy = tmp_path / unit
    copy.write_text(text.replace("ExecStart=lifecycle ", f"ExecStart={command} "))
    assert str(command) in copy.read_text()
    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    # an unknown key is only a warning, with exit status 0
    complaints = [line for line in done.stderr.splitlines() if Path(unit).stem in line]
    assert (done.returncode, complaints) == (0, []), done.stderr
