"""Inside the reflink backend: a volume's files, what they mean, and the steps that change them."""
