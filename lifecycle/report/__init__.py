"""Volumes and rules, reported: documents for programs, diagrams for people."""
