"""The reflink backend: its files, and whatever may befall them."""
