"""Those who call, with the real programs: QEMU, and guests that really boot."""
