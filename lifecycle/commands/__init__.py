"""The commands, by topic; `lifecycle.cli` imports the one that is called."""
