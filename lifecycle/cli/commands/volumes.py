"""Commands about volumes: create, show, change and remove them, and move content in and out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lifecycle.cli.app import command, complete, complete_origin, targets_argument, volume_argument
from lifecycle.cli.commands import start_stop
from lifecycle.cli.invocation import FAILED
from lifecycle.cli.session import Session, print_line
from lifecycle.engine import batch
from lifecycle.engine.vm import VM
from lifecycle.errors import (
    InvalidPolicy,
    LifecycleError,
    NoSuchVolume,
    NotContent,
    PluginFailed,
)
from lifecycle.report import documents
from lifecycle.sizes import format_size

if TYPE_CHECKING:
    from lifecycle.engine.pool import Pool
    from lifecycle.engine.volume import Volume
    from lifecycle.transfer.content import Content

_KEEP = click.option("--keep", metavar="POLICY", help="What to keep; by default as the pool does.")
_READ_ONLY = click.option("--read-only", is_flag=True, help="The VM may not write.")
_ON_CRASH = click.option(
    "--on-crash",
    type=click.Choice(["resume", "commit", "revert"]),
    help="What becomes of a working image that a crash leaves over; by default as the pool does.",
)


@command("create", short_help="Make an empty volume.")
@volume_argument()
@click.option("--size", metavar="SIZE", help="Bytes, or with a unit: 512M, 10G.")
@click.option(
    "--source",
    metavar="VM/NAME",
    shell_complete=complete,
    help="Each start begins from that volume's current image; a stop throws away.",
)
@click.option("--volatile", is_flag=True, help="Each start begins empty; a stop throws away.")
@click.option(
    "--no-snapshots",
    is_flag=True,
    help="The VM writes to the current image itself; stops make no revisions.",
)
@_READ_ONLY
@_KEEP
@_ON_CRASH
def create_command(
    session: Session,
    volume_id: str,
    size: str | None,
    source: str | None,
    volatile: bool,
    no_snapshots: bool,
    read_only: bool,
    keep: str | None,
    on_crash: str | None,
) -> None:
    """Make the volume VM/NAME, empty.

    It is persistent (a stop commits), unless it has a --source (disposable) or is --volatile.
    """
    if size is None and source is None:
        raise click.UsageError(
            "Missing option '--size' (only a volume with a --source needs none)."
        )
    pool, new_id = session.located(volume_id, new=True)
    volume = pool.create_volume(
        new_id,
        size,
        source=None if source is None else _source(session, source, pool),
        save_on_stop=False if volatile else None,
        rw=not read_only,
        keep=keep,
        on_crash=on_crash,
        snapshots=not no_snapshots,
    )
    kind, held = volume.kind, format_size(volume.size or 0)
    session.say(documents.of_volume(volume), f"{volume.id}: created, {kind}, {held}")


def _source(session: Session, address: str, pool: Pool) -> str:
    """Return the source's id in the pool that is to begin from it."""
    found, volume_id = session.located(address)
    if found is not pool:
        raise click.UsageError(
            f"{address} is in the pool {found.path}: a source lies in the same pool as what begins"
            f" from it, {pool.path}; clone it there first."
        )
    with suppress(NoSuchVolume):  # which is said when it is looked for
        session.volume(address)
    return volume_id


@command("list", short_help="List volumes.")
@click.argument("vm", metavar="[VM]", required=False, shell_complete=complete)
def list_command(session: Session, vm: str | None) -> None:
    """List all volumes, or one VM's. Exit status 1 if a directory cannot be listed.

    What ends a --json list early is its last element: {"error": …}.
    """
    found = _failing_for_directories(session, _listed(session, vm))
    if session.as_json:
        session.say_each(found)
        return
    from lifecycle.cli import terminal  # noqa: PLC0415 - slow to load, and not needed for JSON

    terminal.print_list(found, os.path.abspath(session.path))


def _failing_for_directories(
    session: Session, found: Iterator[documents.Document]
) -> Iterator[documents.Document]:
    """Let the command fail in the end if what is in some directory could not be told."""
    for one in found:
        if one["name"] is None:
            session.exit_status = FAILED
        yield one


def _listed(session: Session, address: str | None) -> Iterator[documents.Document]:
    """Yield the documents of what `list` is asked for: a pool, a VM, or by way of exception a single volume."""
    if address is None:
        return documents.of_survey(session.pool)
    (target,) = session.targets([address])
    if isinstance(target, VM):
        return documents.of_survey(target.pool, target.name)
    return iter([documents.of_volume(target, revisions=False)])


@command("show", short_help="Show all about one volume.")
@volume_argument()
def show_command(session: Session, volume_id: str) -> None:
    """Show all about the volume VM/NAME."""
    document = documents.of_volume(session.volume(volume_id))
    if session.as_json:
        session.say(document)
        return
    from lifecycle.cli import terminal  # noqa: PLC0415 - slow to load, and not needed for JSON

    terminal.print_volume(document)


@command("set", short_help="Change a volume's settings.")
@volume_argument()
@click.argument("settings", metavar="KEY=VALUE…", nargs=-1, required=True)
def set_command(session: Session, volume_id: str, settings: tuple[str, ...]) -> None:
    """Change settings: rw=yes|no, keep=POLICY, revisions_to_keep=N, on_crash=resume|commit|revert, source=VM/NAME,
    snapshots=yes|no, precache=auto|always|never, ready=N, owner=USER[:GROUP], label=TEXT (of the current image).

    An empty value (keep=) goes back to the pool's. rw, source and snapshots change only at rest. A policy that keeps
    less removes nothing by itself: `prune` does.
    """
    from lifecycle.cli.settings import read_setting  # noqa: PLC0415 - keeps --help quick

    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError(f"{setting!r} is not KEY=VALUE.")
        changes |= read_setting(volume_id, key.strip(), text.strip())
    volume = session.volume(volume_id)
    lines = [f"{volume.id}: {key} is {_shown(key, value)}" for key, value in changes.items()]
    configured = {key: value for key, value in changes.items() if key != "label"}
    if configured:
        volume.configure(**configured)  # before the label: it is here that settings are refused
    if "label" in changes:
        volume.label(volume.current or 0, changes["label"])
    session.say(documents.of_volume(volume), *lines, *_next_prune(volume, changes))


def _next_prune(volume: Volume, changes: Mapping[str, Any]) -> list[str]:
    """Say what a changed policy will remove."""
    try:
        removed = volume.plan().remove if "keep" in changes else ()
    except (InvalidPolicy, PluginFailed) as error:  # it was sound a moment ago, and is saved
        return [f"{volume.id}: what the next prune removes cannot be told: {error}"]
    if not removed:
        return []
    return [f"{volume.id}: the next prune removes {', '.join(map(str, sorted(removed)))}"]


def _shown(key: str, value: object) -> str:
    """Say what a setting is now."""
    if value is None:
        return "taken away" if key == "label" else "now as the pool has it"
    if isinstance(value, bool):
        return "now yes" if value else "now no"
    return f"now {value}"


@command("resize", short_help="Give a volume another size.")
@volume_argument()
@click.argument("size", metavar="SIZE")
@click.option("--shrink", is_flag=True, help="Let a running volume shrink; cannot be undone.")
def resize_command(session: Session, volume_id: str, size: str, shrink: bool) -> None:
    """Give the volume SIZE bytes (512M, 10G). At rest, the old size stays a revision. Of that size already, it is left
    as it is.

    Running, loop devices are told; tell QEMU with its command block_resize.
    """
    volume = session.volume(volume_id)
    change = volume.resize(size, shrink=shrink)
    held = format_size(volume.size or 0)
    told = f"{volume.state}, now {held}" if change else f"has {held} already; nothing was done"
    session.say(documents.of_volume(volume), f"{volume.id}: {told}")


_FORMAT = click.option(
    "--format",
    "image_format",
    metavar="FORMAT",
    help="raw, qcow2, vmdk, vdi, vhd, vhdx…; by default a file's content tells.",
)
_FOLLOW = click.option(
    "--follow",
    is_flag=True,
    help="Read other files that an image refers to (a backing file…) with it: only if you trust its maker.",
)
_VERIFY = click.option(
    "--verify", is_flag=True, help="Read what was written again, from the disk, and compare."
)


@command("import", short_help="Fill a volume with content from outside.")
@volume_argument()
@click.argument("origin", metavar="SRC|-", shell_complete=complete_origin)
@_FORMAT
@_FOLLOW
@_VERIFY
def import_command(
    session: Session,
    volume_id: str,
    origin: str,
    image_format: str | None,
    follow: bool,
    verify: bool,
) -> None:
    """Make the content of SRC the volume's, which takes its size; what it held becomes a revision.

    SRC is an image file of any format (by qemu-img), a block device, a volume, or - for standard input. A path is
    told from a volume by its beginning: / or ./ . Of a volume that runs, it is the state before its start.
    """
    _check_format(image_format)
    volume = session.volume(volume_id)
    with _origin(session, origin) as found:
        change = volume.import_from(found, image_format=image_format, follow=follow, verify=verify)
    more, told = _told_of_start(found)
    session.say(
        documents.of_volume(volume) | more,
        f"{volume.id}: committed as {change.revision}, {format_size(volume.size or 0)}",
        *told,
    )


def _check_format(name: str | None) -> None:
    from lifecycle.transfer.content import RAW  # noqa: PLC0415 - keeps --help quick
    from lifecycle.transfer.formats import FORMATS  # noqa: PLC0415 - keeps --help quick

    known = [RAW, *FORMATS]
    if name is not None and name not in known:
        raise click.UsageError(f"{name!r} is no known format; known are {', '.join(known)}.")


@contextmanager
def _origin(session: Session, text: str) -> Iterator[Content]:
    """Open what a word of the command line means: standard input, a path, or a volume."""
    from lifecycle.transfer.content import Content  # noqa: PLC0415 - seldom needed

    if text == "-":
        found = Content(_standard_input(), "standard input")
    elif text.startswith(("/", "./", "../")):
        found = Content.of(text)
    else:
        found = Content.of(_volume_or_path(session, text))
    with found as content:
        yield content


def _told_of_start(content: Content) -> tuple[documents.Document, list[str]]:
    """Say of content of a running volume which it is: what a document has more for it, and lines for people."""
    if not content.before_start:
        return {}, []
    told = f"{content.name} is running: this is what it held before its start"
    return {"before_start": True}, [told]


def _volume_or_path(session: Session, text: str) -> Volume | str:
    is_file = os.path.lexists(text)
    try:
        volume = session.volume(text)
    except LifecycleError:
        if is_file:
            return text
        raise
    if is_file:
        raise click.UsageError(f"{text} is a volume and a file too: for the file write ./{text}.")
    return volume


def _standard_input() -> int:
    return os.dup(sys.__stdin__.fileno() if sys.__stdin__ else _closed("input"))


def _closed(stream: str) -> NoReturn:
    raise NotContent(f"standard {stream}", "is closed")


@command("export", short_help="Write a volume's content to a file.")
@volume_argument()
@click.argument("file", metavar="FILE|-")
@click.option(
    "--revision", type=int, metavar="N", help="That revision instead of the current image."
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export_command(
    session: Session, volume_id: str, file: str, revision: int | None, force: bool
) -> None:
    """Write the current image to FILE (a new file or a block device; - for standard output).

    While the VM runs, that is the state before its start.
    """
    from lifecycle.linux import copying  # noqa: PLC0415 - keeps --help quick

    if file == "-" and session.as_json:
        raise click.UsageError("--json and the image cannot both go to standard output.")
    volume = session.volume(volume_id)
    with volume.export(revision) as content:
        more, told = _told_of_start(content)
        if file == "-":
            stdout = sys.__stdout__.fileno() if sys.__stdout__ else _closed("output")
            copying.copy(content.whole, stdout)
            for line in told:
                print_line(f"lifecycle: {line}", on_stderr=True)
            return
        try:
            content.save(file, replace=force, progress=volume.pool.progress(f"export {volume.id}"))
        except FileExistsError:
            raise NotContent(file, "is there already; --force replaces it") from None
        size = content.size
    document = {
        "id": volume.id,
        "revision": revision,
        "size": size,
        "file": os.path.abspath(file),
        **more,
    }
    session.say(document, f"{volume.id}: exported to {file}, {format_size(size or 0)}", *told)


@command("clone", short_help="Make a volume from another, or from an image.")
@click.argument("origin", metavar="SRC|-", shell_complete=complete_origin)
@volume_argument(metavar="DST")
@_READ_ONLY
@_KEEP
@_ON_CRASH
@_FORMAT
@_FOLLOW
@_VERIFY
def clone_command(
    session: Session,
    origin: str,
    volume_id: str,
    read_only: bool,
    keep: str | None,
    on_crash: str | None,
    image_format: str | None,
    follow: bool,
    verify: bool,
) -> None:
    """Make the persistent volume DST with the content of SRC, and of its size.

    SRC is a volume, an image file of any format (by qemu-img), a block device, or - for standard input. A path is
    told from a volume by its beginning: / or ./ . Of a volume that runs, it is the state before its start.
    """
    _check_format(image_format)
    pool, new_id = session.located(volume_id, new=True)
    with _origin(session, origin) as found:
        volume = pool.clone(
            found,
            new_id,
            rw=not read_only,
            keep=keep,
            on_crash=on_crash,
            image_format=image_format,
            follow=follow,
            verify=verify,
        )
    source = "standard input" if origin == "-" else origin
    held = format_size(volume.size or 0)
    more, told = _told_of_start(found)
    session.say(
        documents.of_volume(volume) | more,
        f"{volume.id}: cloned from {source}, {held}",
        *told,
    )


@command("remove", short_help="Remove volumes with all their revisions.")
@targets_argument()
def remove_command(session: Session, targets: tuple[str, ...]) -> None:
    """Remove volumes, or VMs with all their volumes; with all revisions.

    All of them are removed, of whatever pools, or none is.
    """
    removed = session.volumes(targets)
    batch.remove(removed, meanwhile=partial(start_stop.say_meanwhile, session))
    documented = [{"id": volume.id, "state": volume.state} for volume in removed]
    session.say(documented, *(f"{volume.id}: removed" for volume in removed))
