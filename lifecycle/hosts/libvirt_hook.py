"""The old place of the libvirt hook, for hooks that version 0.1.0 installed."""

from lifecycle.hosts.libvirt.hook import main

__all__ = ["main"]
