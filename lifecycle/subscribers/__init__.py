"""What listens to the signals: programs in hooks.d, the log, working images made ahead."""
