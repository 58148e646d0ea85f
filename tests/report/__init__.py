"""Diagrams of the rulebook."""
