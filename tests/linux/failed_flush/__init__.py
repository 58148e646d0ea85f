"""Flushes that fail, on real disks that refuse content and take it again (support/thin_disk.py)."""
