"""libvirt: its hook, called by tests, and by a real libvirtd."""
