"""Content of disks that comes from outside or goes there."""
