"""Pools, VMs and volumes: turns what is asked for into events, and carries the events out."""
