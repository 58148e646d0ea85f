"""Those who call: libvirt, QEMU, systemd, any command; with the real programs where they can be had."""
