"""Pools, VMs and volumes: what is asked for becomes events, and events happen."""
