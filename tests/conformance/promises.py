"""What each backend promises, and so which files of this suite run on it. A new backend is a new line here."""

from __future__ import annotations

READING = frozenset({"test_find_volumes", "test_save_to_file", "test_start_stop"})
"""Volumes are found, started, stopped, looked at and read. Every backend promises this."""

WRITING = frozenset(
    {
        "test_checkpoint",
        "test_clone",
        "test_direct",
        "test_disposable",
        "test_export",
        "test_import",
        "test_in_use",
        "test_left_over",
        "test_lock",
        "test_numbers",
        "test_persistent",
        "test_read_only",
        "test_release",
        "test_remove",
        "test_resize",
        "test_revert",
        "test_revisions",
        "test_sources",
        "test_tags",
        "test_vm",
        "test_volatile",
    }
)
"""Volumes are made and removed, what VMs write is kept or thrown away, and earlier content can be had again."""

PROMISES = {"reflink": READING | WRITING, "directory": READING, "sqlite": READING | WRITING}
