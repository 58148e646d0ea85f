"""What this machine knows of pools: their names, and what each of them lies on."""
