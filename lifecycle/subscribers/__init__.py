"""What listens to the signals: programs in hooks.d, the log, images made ahead."""
