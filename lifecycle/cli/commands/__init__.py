"""The commands, by topic. Only the module of the command that was called is imported."""
