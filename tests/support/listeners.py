"""Those who listen to signals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from lifecycle import Change, Pool, Volume, events

Receiver = Callable[..., None]


class Listener:
    """Hears all signals, of one pool or of all, and notes what it heard."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.heard: list[tuple[str, Pool, Volume, Change]] = []
        self._receivers: list[Receiver] = []
        self._connected = ExitStack()
        for event, tenses in events.EVENTS.items():
            for tense, signal in zip(("announced", "done", "reported"), tenses, strict=True):
                self._hear(f"{event} {tense}", signal, pool)
        self._hear("failed", events.failed, pool)

    def _hear(self, name: str, signal: events.OrderedSignal, pool: Pool | None) -> None:
        def receive(sender: Pool, *, volume: Volume, change: Change, **_: Any) -> None:
            self.heard.append((name, sender, volume, change))

        self._receivers.append(receive)
        if pool is None:
            signal.connect(receive)
        else:
            signal.connect(receive, sender=pool)
        self._connected.callback(signal.disconnect, receive)

    def close(self) -> None:
        self._connected.close()

    def take(self) -> list[str]:
        """Return the names of the signals heard since the last time."""
        names = [name for name, *_ in self.heard]
        self.heard.clear()
        return names


def three(*names: str) -> list[str]:
    """Return the three tenses of each event, in order."""
    return [f"{name} {tense}" for name in names for tense in ("announced", "done", "reported")]
