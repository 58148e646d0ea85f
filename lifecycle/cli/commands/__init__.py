"""The commands, by topic; `lifecycle.cli.app` imports the one that is called."""
