"""Scenes of going back, of other sizes and content, and of taking away. See scenes.py."""

from __future__ import annotations

from crash.pictures import STANDARD
from crash.scene import Scene
from crash.situations import (
    adopted,
    committed,
    committed_thrice,
    created,
    dirty,
    discard,
    disposable,
    forget_rest,
    import_file,
    import_stream,
    made_ahead,
    on,
    resize,
    reverted,
    reverted_to_0,
    second,
    start,
    stop,
    then,
    thrown_away,
    volatile,
    without_current_image,
)

RESTING: tuple[Scene, ...] = (
    # ------------------------------------------------ revert
    Scene(
        "revert running",
        then(committed, dirty),
        on(discard),
        "dirty 2=b | 1=a | w=w",
        "reverted 2=b | 1=a",
    ),
    Scene(
        "revert running to a revision",
        then(committed, dirty),
        on(lambda volume: volume.revert(1)),
        "dirty 2=b | 1=a | w=w",
        "reverted 1=a | 1=a | 2=b",
    ),
    Scene(
        "revert a running disposable", then(disposable, dirty), on(stop), "dirty | w=w", "reverted"
    ),
    Scene(
        "revert a running volatile",
        then(volatile, dirty),
        on(stop),
        "dirty 0=- | w=w",
        "reverted 0=-",
    ),
    Scene(
        "revert",
        committed_thrice,
        on(lambda volume: volume.revert(1)),
        "committed 3=c | 1=a | 2=b",
        "reverted 1=a | 1=a | 2=b | 3=c",
    ),
    Scene(
        "revert what was made ahead of",
        then(committed_thrice, made_ahead),
        on(lambda volume: volume.revert(1)),
        "committed 3=c | 1=a | 2=b",
        "reverted 1=a | 1=a | 2=b | 3=c",
    ),
    Scene(
        "revert to 0",
        committed,
        on(lambda volume: volume.revert(0)),
        "committed 2=b | 1=a",
        "reverted 0=- | 1=a | 2=b",
    ),
    Scene(
        "revert forth again",
        reverted,
        on(lambda volume: volume.revert(2)),
        "reverted 1=a | 1=a | 2=b",
        "reverted 2=b | 1=a | 2=b",
    ),
    Scene(
        "revert one step",
        reverted,
        on(lambda volume: volume.revert()),
        "reverted 1=a | 1=a | 2=b",
        "reverted 0=- | 1=a | 2=b",
    ),
    Scene(
        "revert to what is current",
        committed,
        on(lambda volume: volume.revert(2)),
        "committed 2=b | 1=a",
        "reverted 2=b | 1=a",
    ),
    Scene(
        "revert to 0 without a record",
        adopted,
        on(lambda volume: volume.revert(0)),
        "committed 1=a",
        "reverted 0=- | 1=a",
    ),
    # ------------------------------------------------ resize
    Scene(
        "resize what is empty", created, on(resize(2 * STANDARD)), "created 0=-", "created 0=-:128K"
    ),
    Scene(
        "resize",
        committed,
        on(resize(2 * STANDARD)),
        "committed 2=b | 1=a",
        "committed 3=b:128K | 1=a | 2=b",
    ),
    Scene(
        "resize after a revert",
        reverted,
        on(resize(2 * STANDARD)),
        "reverted 1=a | 1=a | 2=b",
        "committed 3=a:128K | 1=a | 2=b",
    ),
    Scene(
        "resize what was thrown away",
        thrown_away,
        on(resize(2 * STANDARD)),
        "reverted 0=-",
        "committed 1=-:128K",
    ),
    Scene(
        "resize running",
        then(committed, dirty),
        on(resize(2 * STANDARD)),
        "dirty 2=b | 1=a | w=w",
        "dirty 2=b | 1=a | w=w:128K",
    ),
    Scene(
        "resize running and unwritten",
        then(committed, start),
        on(resize(2 * STANDARD)),
        "started 2=b | 1=a | w=b",
        "dirty 2=b | 1=a | w=b:128K",
    ),
    Scene("resize a disposable", disposable, on(resize(2 * STANDARD)), "created", "created"),
    # ------------------------------------------------ import
    Scene(
        "import a file",
        committed,
        on(import_file),
        "committed 2=b | 1=a",
        "committed 3=o | 1=a | 2=b",
    ),
    Scene(
        "import a stream",
        reverted,
        on(import_stream),
        "reverted 1=a | 1=a | 2=b",
        "committed 3=s | 1=a | 2=b",
    ),
    Scene("import the first", created, on(import_stream), "created 0=-", "committed 1=s"),
    # ------------------------------------------------ single revisions
    Scene(
        "forget",
        committed_thrice,
        on(lambda volume: volume.forget(1, 2)),
        "committed 3=c | 1=a | 2=b",
        "committed 3=c",
        again=forget_rest,
    ),
    Scene(
        "prune",
        then(committed_thrice, lambda volume: volume.configure(keep="last 1")),
        on(lambda volume: volume.prune()),
        "committed 3=c | 1=a | 2=b",
        "committed 3=c | 2=b",
    ),
    Scene(
        "pin",
        committed,
        on(lambda volume: volume.pin(1)),
        "committed 2=b | 1=a",
        "committed 2=b | 1=a",
    ),
    Scene(
        "label",
        committed,
        on(lambda volume: volume.label(2, "before the upgrade")),
        "committed 2=b | 1=a",
        "committed 2=b | 1=a",
    ),
    Scene(
        "configure",
        committed,
        on(lambda volume: volume.configure(keep="last 9")),
        "committed 2=b | 1=a",
        "committed 2=b | 1=a",
    ),
    # ------------------------------------------------ remove
    Scene(
        "remove",
        committed,
        on(lambda volume: volume.remove()),
        "committed 2=b | 1=a",
        "absent",
        dissolves=True,
    ),
    Scene(
        "remove after a revert to 0",
        reverted_to_0,
        on(lambda volume: volume.remove()),
        "reverted 0=- | 1=a | 2=b",
        "absent",
        dissolves=True,
    ),
    Scene(
        "remove a disposable", disposable, on(lambda volume: volume.remove()), "created", "absent"
    ),
    Scene(
        "remove the last of a VM",
        second,
        on(lambda volume: volume.remove(), "ci-43/root"),
        "committed 1=a",
        "absent",
        volume="ci-43/root",
    ),
    Scene(
        "remove what is damaged",
        then(committed, without_current_image),
        on(lambda volume: volume.remove()),
        "damaged | 1=a",
        "absent",
        dissolves=True,
    ),
)
