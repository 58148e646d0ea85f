"""What every backend must do, said in code.

The fixture `pool` (conftest.py) decides the backend; nothing here knows how one keeps its images. Only the public API
is used: Pool, Volume, VM and the signals. What differs between backends is in harnesses.py: how a VM has a disk open.
"""
