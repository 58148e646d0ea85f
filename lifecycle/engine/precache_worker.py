"""The program that makes working images ahead; subscribers/precaching.py begins it in the background.

`python -m lifecycle.engine.precache_worker POOL VOLUME…`. It needs no more of the pool than its backend: no one
listens to what it does, and the locks are the backend's.
"""

import os

# lowest for processor and disk alike, before anything else is loaded
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

import contextlib  # noqa: E402
import sys  # noqa: E402

from lifecycle.config import POOL_FILE, read_pool  # noqa: E402
from lifecycle.engine import registry  # noqa: E402
from lifecycle.errors import LifecycleError  # noqa: E402
from lifecycle.linux.holders import BACKGROUND  # noqa: E402

if __name__ == "__main__":
    path, *volume_ids = sys.argv[1:]
    os.chdir("/")
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write(BACKGROUND)
    content = registry.read_pool_file(path)
    if content is not None:
        backend = registry.backend_of(path, read_pool(f"{path}/{POOL_FILE}", content))
        for volume_id in volume_ids:
            with contextlib.suppress(LifecycleError, OSError):  # a start makes its own then
                backend.make_ahead(volume_id)
