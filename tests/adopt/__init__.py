"""Trees of others become pools."""
