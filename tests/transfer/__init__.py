"""Content that comes in."""
