"""Volumes as blocks in one SQLite file: an example of a backend that has no images as files."""
