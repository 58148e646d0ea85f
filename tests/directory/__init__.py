"""The read-only backend."""
