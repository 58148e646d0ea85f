"""Which files make libvirt's daemon call the hook, for `host install libvirt`.

Since libvirt 6.5 each executable in hooks/qemu.d is called; before, only hooks/qemu was, and a dispatcher there that
runs what is in qemu.d makes up for it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from lifecycle.errors import LifecycleError
from lifecycle.hosts import installing
from lifecycle.hosts.host import Installed, NotInstalled
from lifecycle.hosts.libvirt import settings
from lifecycle.linux.child_processes import ends_told

OPTIONS = frozenset({"dispatcher"})

HOOKS = "/etc/libvirt/hooks"
HOOK = f"{HOOKS}/qemu.d/lifecycle"
DISPATCHER = f"{HOOKS}/qemu"
DAEMONS = ("virtqemud", "libvirtd")
FIRST_WITH_SEVERAL_HOOKS = (6, 5)

_HOOK_TEXT = """\
#!{python} -I
# {mark}; `lifecycle host uninstall libvirt` removes it.
from lifecycle.hosts.libvirt.hook import main

main()
"""

_HOOK_TEXT_BY_SH = """\
#!/bin/sh
# {mark}; `lifecycle host uninstall libvirt` removes it.
exec {python} -I -c 'from lifecycle.hosts.libvirt.hook import main; main()' "$@"
"""
"""For a Python whose path the kernel does not take: it reads a first line that is not too long, and has no blanks."""

_DISPATCHER_TEXT = """\
#!/bin/sh
# {mark}; runs what is in qemu.d, as libvirt does itself since 6.5.
# What a hook prints at `migrate` and `restore` takes the place of the VM's XML.
xml=$(cat)
printed=
for hook in "$0.d"/*; do
    [ -f "$hook" ] && [ -x "$hook" ] || continue
    output=$(printf '%s\\n' "$xml" | "$hook" "$@") || exit
    case $2 in migrate | restore)
        [ -z "$output" ] || {{ xml=$output printed=yes; }} ;;
    esac
done
[ -z "$printed" ] || printf '%s\\n' "$xml"
"""

_LONGEST_FIRST_LINE = 250
"""Bytes."""


def install(root: str, *, dispatcher: bool = False) -> list[str]:
    """Install the hook, and the dispatcher where libvirt is older than 6.5 or that is asked for."""
    wanted = {HOOK: _hook_text()}
    ways_out = {HOOK: "rename it, and repeat"}
    if dispatcher or _is_old(root):
        wanted[DISPATCHER] = _DISPATCHER_TEXT.format(mark=installing.mark("libvirt"))
        ways_out[DISPATCHER] = (
            f"move it to {installing.below(root, DISPATCHER)}.d/ and repeat: then the one that is"
            " installed calls it too"
        )
    for path, way_out in ways_out.items():
        found = installing.read(installing.below(root, path))
        if found is not None and not installing.is_ours(found):
            raise NotInstalled(
                f"{installing.below(root, path)} is someone else's, and must be lifecycle's for"
                f" this libvirt to call it; {way_out}."
            )
    return [
        one
        for path, text in wanted.items()
        for one in installing.put(installing.below(root, path), text, executable=True)
    ]


def advice(root: str, written: Sequence[str]) -> list[str]:
    """Say that the daemon must be told, if it looked for hooks before there were any."""
    looked_for = {installing.below(root, one) for one in (os.path.dirname(HOOK), DISPATCHER)}
    if looked_for.isdisjoint(written):
        return []
    text = "libvirt looks for hooks when it starts or reloads, so once: systemctl reload libvirtd"
    return [f"{text} (or virtqemud); running VMs go on"]


def uninstall(root: str) -> list[str]:
    """Remove the hook and the dispatcher, if they are ours."""
    return [
        one
        for path in (HOOK, DISPATCHER)
        for one in installing.take_away(installing.below(root, path))
    ]


def status(root: str) -> list[Installed]:
    """Tell of the hook and the dispatcher, if they are ours."""
    found = []
    for path in (HOOK, DISPATCHER):
        where = installing.below(root, path)
        text = installing.read(where)
        if text is not None and installing.is_ours(text):
            wrong = _what_is_wrong(root, where, text)
            said = f"version {installing.version_in(text)}, {wrong or 'works'}"
            found.append(Installed(where, said, wrong is None))
    return found + _status_of_settings() if found else found


def _status_of_settings() -> list[Installed]:
    try:
        settings.read()
    except (LifecycleError, OSError) as error:
        return [Installed(settings.path() or "", str(error), False)]
    return []


def _hook_text() -> str:
    python, mark = sys.executable, installing.mark("libvirt")
    text = _HOOK_TEXT.format(python=python, mark=mark)
    if len(text.splitlines()[0].encode()) <= _LONGEST_FIRST_LINE and len(python.split()) == 1:
        return text
    return _HOOK_TEXT_BY_SH.format(python=shlex.quote(python), mark=mark)


def _what_is_wrong(root: str, path: str, text: str) -> str | None:
    if not os.access(path, os.X_OK):
        return "is not executable"
    if path.endswith(HOOK) and not os.access(installing.below(root, _python_of(text)), os.X_OK):
        return "its interpreter is not there; install again"
    return None


def _python_of(text: str) -> str:
    """Return the path of the Python that a hook of ours runs."""
    first, *others = text.splitlines()
    if first != "#!/bin/sh":
        return first.removeprefix("#!").removesuffix(" -I")
    return shlex.split(others[1])[1]


def _is_old(root: str) -> bool:
    """Tell whether the machine's own libvirt knows only one hook; of another root's nothing can be told."""
    version = daemon_version() if os.path.realpath(root) == "/" else None
    return version is not None and version < FIRST_WITH_SEVERAL_HOOKS


def daemon_version() -> tuple[int, ...] | None:
    """Return the version of this machine's libvirt; None if there is none, or it will not say."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    for name in DAEMONS:
        daemon = shutil.which(name, path=path)
        if daemon is None:
            continue
        with ends_told():
            said = subprocess.run(
                [daemon, "--version"], capture_output=True, text=True, check=False
            )
        version = re.search(r"(\d+)\.(\d+)\.(\d+)", said.stdout)
        if said.returncode == 0 and version is not None:
            return tuple(int(one) for one in version.groups())
    return None
