"""What every backend must do, said in code.

The fixture `pool` (../conftest.py) decides the backend; nothing here knows how one keeps its images. Only the public
API is used: Pool, Volume, VM and the signals; and `volume.path`, which a VM opens.
"""
