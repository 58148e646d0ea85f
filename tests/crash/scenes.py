"""The table of what happens: each event in each situation, how it is prepared, and what is there before and after.

Before and after are written as `pictures.in_words` shows a volume: its state, then `number=letter` for the current
image and each revision, by the first letter of its content (`-`: empty), and `w=` for the working image.
"""

from __future__ import annotations

from crash.scene import Scene
from crash.scenes_mending import MENDING
from crash.scenes_resting import RESTING
from crash.scenes_running import RUNNING

SCENES: tuple[Scene, ...] = (*RUNNING, *RESTING, *MENDING)
BY_NAME = {scene.name: scene for scene in SCENES}
assert len(BY_NAME) == len(SCENES)
