"""What the kernel does, and what is made of it."""
