"""Subscribers: hooks, and those that fail."""
