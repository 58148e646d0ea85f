"""Pools, VMs and volumes, whatever the backend: events, recovery, locks, the reserve."""
