"""Trees of images that another driver made, taken over as pools."""
