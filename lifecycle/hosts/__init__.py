"""Those who call: what tells lifecycle that a VM starts and has stopped."""
