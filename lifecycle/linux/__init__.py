"""The one place that talks to the kernel: descriptors, durability, clones, leases, locks, extended attributes."""
