"""systemd units that start and stop a VM's volumes with the VM's unit, recover at boot and prune daily.

The units are in units/, with `lifecycle` as the command; installed, they call this installation by its path.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.resources import files

from lifecycle.engine.endings import Ending
from lifecycle.errors import LifecycleError
from lifecycle.hosts import installing
from lifecycle.hosts.host import Installed, NotInstalled
from lifecycle.linux.child_processes import ends_told

OPTIONS = frozenset({"enable"})

DIRECTORY = "/etc/systemd/system"
UNITS = (
    "lifecycle@.service",
    "lifecycle-recover.service",
    "lifecycle-prune.service",
    "lifecycle-prune.timer",
)
WANTED_BY = {
    "lifecycle-recover.service": "multi-user.target",
    "lifecycle-prune.timer": "timers.target",
}
"""The units that a person enables, and what pulls them in then."""
_ADVICE = {
    "lifecycle-recover.service": "to recover when the host boots: systemctl enable {}",
    "lifecycle-prune.timer": "to prune every day: systemctl enable --now {}",
}
_AT_ONCE = {"lifecycle-prune.timer"}
"""Started when enabled. Recovery is for the boot: at any other time a VM that is about to open its disks looks gone."""

ENDINGS = {
    "success": Ending.STOPPED,
    "exit-code": Ending.FAILED,
    "exec-condition": Ending.FAILED,
    "protocol": Ending.FAILED,
    "resources": Ending.FAILED,
    "start-limit-hit": Ending.FAILED,
    "timeout": Ending.CRASHED,
    "watchdog": Ending.CRASHED,
    "signal": Ending.CRASHED,
    "core-dump": Ending.CRASHED,
    "oom-kill": Ending.CRASHED,
}
"""What a VM's unit came to, in systemd's words ($SERVICE_RESULT, systemd.exec(5)), as the ending that it was."""

_COMMAND = re.compile(r"^(Exec\w+=[:@+!-]*)lifecycle(?= )", re.MULTILINE)
_CALLED = re.compile(r'^Exec\w+=[:@+!-]*(?:"([^"]*)"|(\S+))', re.MULTILINE)


class StillNeeded(LifecycleError):
    """The units cannot be removed: they are to stop what runs now."""


def ending_of(result: str) -> Ending:
    """Return the ending that a unit's $SERVICE_RESULT stands for; a word that is not known is a crash."""
    return ENDINGS.get(result, Ending.CRASHED)


def install(root: str, *, enable: bool = False) -> list[str]:
    """Install the units; if asked, enable recovery at boot and the daily prune."""
    command = _command()
    for unit in UNITS:
        found = installing.read(_where(root, unit))
        if found is not None and not installing.is_ours(found):
            raise NotInstalled(f"{_where(root, unit)} is someone else's; move it away and repeat")
    written = [
        one for unit in UNITS for one in installing.put(_where(root, unit), text_of(unit, command))
    ]
    if written and _runs(root):
        _systemctl(root, "daemon-reload")
    if enable:
        for unit in _not_enabled(root):
            now = ["--now"] if unit in _AT_ONCE and _runs(root) else []
            _systemctl(root, "enable", *now, unit)
    return written


def advice(root: str, _written: Sequence[str]) -> list[str]:
    """Say how to enable what is not enabled."""
    return [_ADVICE[unit].format(unit) for unit in _not_enabled(root)]


def uninstall(root: str) -> list[str]:
    """Disable the units and remove them, if they are ours.

    Raises:
        StillNeeded: a VM's disks are to be stopped by one of them.
    """
    if _runs(root) and (running := _running_vms()):
        raise StillNeeded(
            f"{', '.join(running)} would not be stopped then; stop the VMs first, or what needs these"
        )
    ours = [unit for unit in UNITS if installing.is_ours(installing.read(_where(root, unit)))]
    enabled = [unit for unit in ours if unit in WANTED_BY and _is_enabled(root, unit)]
    if enabled:
        _systemctl(root, "disable", *(["--now"] if _runs(root) else []), *enabled)
    removed = [one for unit in ours for one in installing.take_away(_where(root, unit))]
    if removed and _runs(root):
        _systemctl(root, "daemon-reload")
    return removed


def status(root: str) -> list[Installed]:
    """Tell of each unit that is ours."""
    found = []
    for unit in UNITS:
        text = installing.read(_where(root, unit))
        if text is not None and installing.is_ours(text):
            wrong = _what_is_wrong(root, text)
            said = [f"version {installing.version_in(text)}", wrong or "works"]
            if unit in WANTED_BY:
                said.append("enabled" if _is_enabled(root, unit) else "not enabled")
            found.append(Installed(_where(root, unit), ", ".join(said), wrong is None))
    return found


def text_of(unit: str, command: str) -> str:
    """Return a unit's text as it is installed, with the path of the command to call."""
    text = files("lifecycle.hosts").joinpath("units", unit).read_text(encoding="utf-8")
    head = f"# {installing.mark('systemd')}; `lifecycle host uninstall systemd` removes it.\n"
    return head + _COMMAND.sub(lambda found: found[1] + _as_word(command), text)


def _as_word(path: str) -> str:
    """Return a path as a unit has it: whole, and with nothing in it that systemd would fill in.

    Raises:
        NotInstalled: systemd takes no such path.
    """
    if set(path) & set("\"'\\\n"):
        raise NotInstalled(
            f"{path}: systemd calls no command with quotes, backslashes or line breaks in its path;"
            " install the package elsewhere"
        )
    return f'"{path.replace("%", "%%")}"' if " " in path else path.replace("%", "%%")


def _command() -> str:
    """Return the path of this installation's command."""
    called = sys.argv[0] if os.path.basename(sys.argv[0]) == "lifecycle" else None
    beside = os.path.join(sysconfig.get_path("scripts"), "lifecycle")
    for one in (called, beside, shutil.which("lifecycle")):
        if one is not None and os.access(one, os.X_OK):
            return os.path.abspath(one)
    raise NotInstalled(
        "units call the command `lifecycle`, which is not there; install the package with pip"
    )


def _what_is_wrong(root: str, text: str) -> str | None:
    for quoted, plain in _CALLED.findall(text):
        command = (quoted or plain).replace("%%", "%")
        if not os.access(installing.below(root, command), os.X_OK):
            return f"{command} is not there; install again"
    return None


def _where(root: str, unit: str) -> str:
    return installing.below(root, f"{DIRECTORY}/{unit}")


def _is_enabled(root: str, unit: str) -> bool:
    return os.path.lexists(_where(root, f"{WANTED_BY[unit]}.wants/{unit}"))


def _not_enabled(root: str) -> list[str]:
    return [unit for unit in WANTED_BY if not _is_enabled(root, unit)]


def _runs(root: str) -> bool:
    """Tell whether the root is this machine's, and systemd runs it (sd_booted(3))."""
    return os.path.realpath(root) == "/" and os.path.isdir("/run/systemd/system")


def _running_vms() -> list[str]:
    """Return the units of VMs whose disks are started."""
    listed = _systemctl(
        "/", "list-units", "--plain", "--no-legend", "--full", "lifecycle@*.service"
    )
    return [line.split()[0] for line in listed.splitlines() if line.split()[2] == "active"]


def _systemctl(root: str, *words: str) -> str:
    """Call systemctl and return what it prints.

    Raises:
        LifecycleError: it is not there, or failed.
    """
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        raise LifecycleError("systemctl is not installed; nothing can be enabled or disabled here")
    where = [] if os.path.realpath(root) == "/" else [f"--root={os.path.abspath(root)}"]
    with ends_told():
        done = subprocess.run(
            [systemctl, "--quiet", *where, *words], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise LifecycleError(f"systemctl {' '.join(words)} failed: {said}")
    return done.stdout
