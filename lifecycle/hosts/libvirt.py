"""libvirt: a hook that its daemon calls at each start and stop of a QEMU VM. What the hook does is in libvirt_hook.py.

Since libvirt 6.5 each executable in hooks/qemu.d is called; before, only hooks/qemu was, and a dispatcher there that
runs what is in qemu.d makes up for it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from lifecycle.hosts import installing
from lifecycle.hosts.installing import Installed, NotInstalled

OPTIONS = frozenset({"dispatcher"})

HOOKS = "/etc/libvirt/hooks"
HOOK = f"{HOOKS}/qemu.d/lifecycle"
DISPATCHER = f"{HOOKS}/qemu"
DAEMONS = ("virtqemud", "libvirtd")
FIRST_WITH_SEVERAL_HOOKS = (6, 5)

_HOOK_TEXT = """\
{interpreter}
# {mark}; `lifecycle host uninstall libvirt` removes it.
from lifecycle.hosts.libvirt_hook import main

main()
"""

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
        [ -z "$output" ] || { xml=$output printed=yes; } ;;
    esac
done
[ -z "$printed" ] || printf '%s\\n' "$xml"
"""

_LONGEST_INTERPRETER = 200
"""Characters that the kernel reads of a first line `#!…`, with room to spare; and it splits at blanks."""


def install(root: str, *, dispatcher: bool = False) -> list[str]:
    """Install the hook, and the dispatcher where libvirt is older than 6.5 or that is asked for."""
    wanted = {HOOK: _hook_text()}
    if dispatcher or _is_old(root):
        found = installing.read(installing.below(root, DISPATCHER))
        if found is not None and not installing.is_ours(found):
            raise NotInstalled(
                f"{installing.below(root, DISPATCHER)} is someone else's, and this libvirt calls no"
                f" other hook; move it to {installing.below(root, DISPATCHER)}.d/ and repeat: what"
                " is installed then calls it too"
            )
        wanted[DISPATCHER] = _DISPATCHER_TEXT.format(mark=installing.mark("libvirt"))
    return [
        one
        for path, text in wanted.items()
        for one in installing.put(installing.below(root, path), text, executable=True)
    ]


def advice(root: str, written: Sequence[str]) -> list[str]:
    """Say that the daemon must be restarted, if it looked for hooks before there were any."""
    if installing.below(root, HOOKS) in written:
        return ["libvirt looks for hooks when it starts: restart it (systemctl restart libvirtd)"]
    return []


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
    return found


def _hook_text() -> str:
    interpreter = f"#!{sys.executable} -I"
    if len(interpreter) > _LONGEST_INTERPRETER or len(sys.executable.split()) != 1:
        # sh runs the second line; to Python, lines two and three are a text and nothing more
        interpreter = f"#!/bin/sh\n'''exec' '{sys.executable}' -I \"$0\" \"$@\"\n' '''"
    return _HOOK_TEXT.format(interpreter=interpreter, mark=installing.mark("libvirt"))


def _what_is_wrong(root: str, path: str, text: str) -> str | None:
    if not os.access(path, os.X_OK):
        return "is not executable"
    interpreter = re.search(r"^(?:#!|'''exec' ')(/[^\n']*?)(?:'| -I|\n)", text, re.MULTILINE)
    if interpreter is None or not os.access(installing.below(root, interpreter[1]), os.X_OK):
        return "its interpreter is not there; install again"
    return None


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
        said = subprocess.run([daemon, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"(\d+)\.(\d+)\.(\d+)", said.stdout)
        if version is not None:
            return tuple(int(one) for one in version.groups())
    return None
