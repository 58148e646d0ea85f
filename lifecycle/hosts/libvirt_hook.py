"""The way to `lifecycle.hosts.libvirt.hook` for hooks that were installed by version 0.1.0 and call this one."""

from lifecycle.hosts.libvirt.hook import main

__all__ = ["main"]
