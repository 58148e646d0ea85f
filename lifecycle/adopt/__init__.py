"""Trees of images that others made, taken in as pools."""
