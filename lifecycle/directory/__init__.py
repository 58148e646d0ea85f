"""The read-only backend: ready images that VMs share."""
