"""The pools that this machine knows."""
