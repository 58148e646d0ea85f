"""How the reflink backend does it: a volume's files, what they mean, and the steps that change them."""
