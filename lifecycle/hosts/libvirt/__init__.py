"""libvirt: a hook that starts and stops the volumes of a domain with the domain."""
