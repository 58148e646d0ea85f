"""The repository as a whole: its docs, its demo, its commands, the tests themselves."""
