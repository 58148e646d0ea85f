"""The hook that libvirtd runs, and waits for, at each step of every domain's life. It loads little.

How this works. libvirtd gives the VM's name, what happens and why as arguments, and the VM's XML on standard input.
The disks in it that lie in a pool are the volumes, so nothing is set up for each VM. Most VMs of a host may have none,
so this module loads nearly nothing, and looks for a pool.toml above each disk; only where there is one does
domain_events.py follow, which knows what each step means for volumes.

Where libvirt listens (a start, a restore), what goes wrong is said in one line, and the exit status lets the VM not
start. Everywhere else it is only logged: a VM's end cannot be refused, and a failure at `reconnect` would kill a VM.
Nothing is ever printed on standard output, which would take the place of the VM's XML.
"""

from __future__ import annotations

import sys

from lifecycle.hosts.libvirt.xml import Unreadable, lies_in_a_pool, read_domain
from lifecycle.linux import fast_exit

STEPS = {
    ("prepare", "begin"),
    ("start", "begin"),
    ("started", "begin"),
    ("restore", "begin"),
    ("stopped", "end"),
    ("release", "end"),
}
"""What domain_events.py has a function for."""
GATES = {"prepare", "start", "restore"}
"""Where the exit status is heeded, and a failure means that the VM does not start."""

ROOT = {"", "+0", "0", "root"}
"""Users that can pass through any directory, so that there is nothing to do at `start`; or none is said."""

LONGEST_XML = 64 << 20
"""Bytes. libvirt itself takes no longer XML from anyone."""


def main() -> None:
    """Do what libvirtd asks for, and exit."""
    fast_exit.run(lambda: run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit status: 0, or 1 if the VM must not start, for the reason said on standard error.

    Args:
        arguments: the VM's name, the step, its phase, the reason or `-`. The VM's XML is on standard input.
    """
    _name, step, phase, reason = (*arguments, *("-" * 4))[:4]
    if (step, phase) not in STEPS:
        return 0
    try:
        content = _read_stdin()
        if content.strip():
            domain = read_domain(content)
            disks = [disk for disk in domain.disks if lies_in_a_pool(disk)]
            if disks and not (step == "start" and domain.user in ROOT):
                from lifecycle.hosts.libvirt import domain_events  # noqa: PLC0415 - only for VMs with volumes

                domain_events.take(domain, disks, step, reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, libvirtd must not be shown a traceback
        _complain(str(error) if _is_meant_for_people(error) else repr(error))
        return 1 if step in GATES else 0
    return 0


def _read_stdin() -> bytes:
    if sys.stdin is None:  # closed
        return b""
    content = sys.stdin.buffer.read(LONGEST_XML + 1)
    if len(content) > LONGEST_XML:
        raise Unreadable(f"the VM's XML is longer than {LONGEST_XML} bytes")
    return content


def _is_meant_for_people(error: Exception) -> bool:
    """Tell whether an error's text is enough: one of ours, or the system's."""
    if isinstance(error, (Unreadable, OSError)):
        return True
    errors = sys.modules.get("lifecycle.errors")
    return errors is not None and isinstance(error, errors.LifecycleError)


def _complain(text: str) -> None:
    if sys.stderr is not None:
        from lifecycle.errors import printable  # noqa: PLC0415 - only here

        line = printable(" ".join(text.split()))
        sys.stderr.buffer.write(f"lifecycle: {line}\n".encode(errors="backslashreplace"))
