"""The hosts: what calls lifecycle when a VM starts and when it has stopped."""
