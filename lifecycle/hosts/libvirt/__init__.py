"""libvirt: its hook, and what each step in a domain's life means for the domain's volumes."""
