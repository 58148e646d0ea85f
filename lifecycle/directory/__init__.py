"""The read-only backend: a directory of ready images that VMs share."""
