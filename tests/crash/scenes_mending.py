"""Scenes of recovery, and of the way back from damage. See scenes.py."""

from __future__ import annotations

from crash.scene import Scene
from crash.situations import (
    committed,
    committed_thrice,
    cut_short,
    dirty,
    import_stream,
    on,
    recover,
    stop,
    then,
    without_current_image,
    without_readable_record,
)

COMMIT_POLICY = (("on_crash", "commit"),)
REVERT_POLICY = (("on_crash", "revert"),)
RESUME_POLICY = (("on_crash", "resume"),)

MENDING: tuple[Scene, ...] = (
    # ------------------------------------------------ recover
    Scene(
        "recover, resuming",
        then(committed, dirty),
        recover,
        "dirty 2=b | 1=a | w=w",
        "dirty 2=b | 1=a | w=w",
        pool=RESUME_POLICY,
        guest=True,
    ),
    Scene(
        "recover, committing",
        then(committed, dirty),
        recover,
        "dirty 2=b | 1=a | w=w",
        "committed 3=w | 1=a | 2=b",
        pool=COMMIT_POLICY,
        guest=True,
    ),
    Scene(
        "recover, reverting",
        then(committed, dirty),
        recover,
        "dirty 2=b | 1=a | w=w",
        "reverted 2=b | 1=a",
        pool=REVERT_POLICY,
    ),
    Scene(
        "recover what kept the current image only",
        then(committed, dirty, cut_short(on(stop), "rename root-dirty.img")),
        recover,
        "dirty 2=b | 1=a | w=w",
        "dirty 2=b | 1=a | w=w",
    ),
    Scene(
        "recover a commit without its record",
        then(committed, dirty, cut_short(on(stop), "rename root.json")),
        recover,
        "committed 3=w | 1=a | 2=b",
        "committed 3=w | 1=a | 2=b",
    ),
    Scene(
        "recover a revert without its record",
        then(committed, cut_short(on(lambda volume: volume.revert(1)), "rename root.json")),
        recover,
        "reverted 1=a | 1=a | 2=b",
        "reverted 1=a | 1=a | 2=b",
    ),
    Scene(
        "recover half a removal",
        then(committed, cut_short(on(lambda volume: volume.remove()), "unlink root.json")),
        recover,
        "absent",
        "absent",
    ),
    # ------------------------------------------------ the way back from damage
    Scene(
        "revert what is damaged",
        then(committed_thrice, without_current_image),
        on(lambda volume: volume.revert()),
        "damaged | 1=a | 2=b",
        "reverted 2=b | 1=a | 2=b",
    ),
    Scene(
        "revert what is damaged and dirty",
        then(committed, dirty, without_current_image),
        on(lambda volume: volume.revert()),
        "damaged | 1=a | w=w",
        "reverted 1=a | 1=a | 3=w",
    ),
    Scene(
        "revert without a readable record",
        then(committed, without_readable_record),
        on(lambda volume: volume.revert()),
        "damaged 2=b | 1=a",
        "reverted 2=b | 1=a",
    ),
    Scene(
        "import into what is damaged",
        then(committed, without_current_image),
        on(import_stream),
        "damaged | 1=a",
        "committed 3=s | 1=a",
    ),
    Scene(
        "import into what is damaged and dirty",
        then(committed, dirty, without_current_image),
        on(import_stream),
        "damaged | 1=a | w=w",
        "committed 3=s | 1=a | 4=w",
    ),
)
