"""Content from outside and to the outside."""
