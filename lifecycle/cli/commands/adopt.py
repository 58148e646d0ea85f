"""The command `adopt`: makes a pool of a tree of images that another driver made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from lifecycle.cli.app import command
from lifecycle.cli.commands.pools import let_be_known
from lifecycle.cli.invocation import FAILED
from lifecycle.cli.session import Session, fitted
from lifecycle.report import documents
from lifecycle.report.documents import Document

if TYPE_CHECKING:
    from lifecycle.adopt.findings import Plan, Planned
    from lifecycle.adopt.plan_xml import Said
    from lifecycle.adopt.qubes_xml import QubesXml, XmlPool


@command("adopt", short_help="Make a pool of a tree of images, as they are.")
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--yes", is_flag=True, help="Do it; without, only show what was found.")
@click.option(
    "--qubes-xml",
    metavar="FILE",
    type=click.Path(),
    help="Take kinds, sources and settings of volumes from this qubes.xml.",
)
@click.option(
    "--qubes-pool",
    metavar="NAME",
    help="The pool of it that DIR is; by default the one whose dir_path is DIR.",
)
@click.option(
    "--remove-cow",
    is_flag=True,
    help="Remove what the older `file` driver left: empty -cow.img files, -cow.img.old files.",
)
@click.option(
    "--keep", metavar="POLICY", help="What to keep; by default as FILE says, else last 5."
)
@click.option(
    "--no-setup-check",
    is_flag=True,
    help="Accept a file system without reflinks: each start copies the image.",
)
@click.option("--name", help="What this machine knows the pool as; by default DIR's own name.")
def adopt_command(
    session: Session,
    directory: str,
    yes: bool,
    qubes_xml: str | None,
    qubes_pool: str | None,
    remove_cow: bool,
    keep: str | None,
    no_setup_check: bool,
    name: str | None,
) -> None:
    """Make a pool of DIR, a tree of images of file-reflink or `file` pools; no image is copied, renamed or changed.

    Shows what was found and what would be added; --yes does it. Exit status 1 if a volume is found damaged, or lacks
    what a -cow.img holds; the others are adopted all the same.
    """
    from lifecycle import times  # noqa: PLC0415 - keeps --help quick
    from lifecycle.adopt import plan as planning  # noqa: PLC0415 - keeps --help quick
    from lifecycle.adopt import tree  # noqa: PLC0415 - keeps --help quick
    from lifecycle.config import check_keep  # noqa: PLC0415 - keeps --help quick

    if qubes_pool is not None and qubes_xml is None:
        raise click.UsageError("--qubes-pool names a pool of a --qubes-xml FILE.")
    check_keep(keep, "UTC")
    where = os.path.abspath(directory)
    said = None if qubes_xml is None else _said(qubes_xml, where, qubes_pool)
    tree.check(where, setup_check=not no_setup_check)
    plan = planning.plan(tree.find(where), times.now(), said, keep=keep, remove_cow=remove_cow)
    known_as = None
    if yes:
        pool = tree.carry_out(plan, setup_check=not no_setup_check)
        known_as = let_be_known(pool.path, name)
    document = {"path": where, "adopted": yes, "name": known_as, **_document(plan)}
    if session.as_json:
        session.say(document)
    else:
        session.say(
            document, *_lines(plan, done=yes), "", *fitted([_outcome(plan, known_as, done=yes)])
        )
    if not all(one.is_fit for one in plan.volumes):
        session.exit_status = FAILED


def _said(file: str, where: str, name: str | None) -> Said:
    """Return what the file says of the pool in this directory, or of the one of this name."""
    from lifecycle.adopt import qubes_xml  # noqa: PLC0415 - seldom needed
    from lifecycle.adopt.plan_xml import Said  # noqa: PLC0415 - seldom needed

    xml = qubes_xml.read(file)
    return Said.by(xml, _xml_pool(xml, where, name))


def _xml_pool(xml: QubesXml, where: str, name: str | None) -> XmlPool:
    from lifecycle.errors import InvalidConfig, shown  # noqa: PLC0415 - seldom needed

    real = os.path.realpath(where)
    for one in xml.pools:
        is_here = one.dir_path is not None and os.path.realpath(one.dir_path) == real
        if one.name == name if name is not None else is_here:
            return one
    known = ", ".join(f"{shown(one.name)} ({shown(one.dir_path)})" for one in xml.pools) or "none"
    wanted = f"in {where}; name one with --qubes-pool" if name is None else f"named {shown(name)}"
    raise InvalidConfig(xml.where, f"has no pool {wanted}. Its pools: {known}")


# ---------------------------------------------------------------- what is said


def _document(plan: Plan) -> Document:
    return {
        "keep": plan.keep,
        "volumes": [_of_volume(one) for one in plan.volumes],
        "added": list(plan.added),
        "removed": list(plan.removed),
        "notes": [documents.of_finding(one) for one in plan.notes],
    }


def _of_volume(one: Planned) -> Document:
    view = one.view
    document: Document = {
        "id": one.id,
        "state": view.state,
        "kind": view.config.kind,
        "size": view.size,
        "rw": view.config.rw,
        "source": view.config.source,
        "keep": view.config.keep,
        "current": view.current,
        "revisions": list(view.numbers),
        "left_over": view.running and not one.in_use_by,
        "in_use_by": [holder._asdict() for holder in one.in_use_by],
        "told_by": one.told_by,
        "remarks": list(one.remarks),
    }
    return document | ({} if one.is_fit else {"damage": view.damage})


def _lines(plan: Plan, *, done: bool) -> list[str]:
    from lifecycle.cli import tables  # noqa: PLC0415 - slow to load, and not needed for JSON

    holds = tables.Holds
    columns = [
        tables.Column("VOLUME", holds.NAMES),
        tables.Column("STATE", holds.WORDS),
        tables.Column("KIND"),
        tables.Column("NUMBER"),
        tables.Column("REVISIONS", holds.WORDS),
        tables.Column("TOLD BY", holds.WORDS),
        tables.Column("SOURCE", holds.NAMES),
    ]
    rows = [[tables.cell_of(cell) for cell in _row(one)] for one in plan.volumes]
    lines = tables.lines_of(columns, rows)
    remarks = [
        (one.id, text)
        for one in plan.volumes
        for text in (*([] if one.is_fit else [str(one.view.damage)]), *one.remarks)
    ]
    remarks += [(one.path, one.text) for one in plan.notes]
    sections = {
        "added" if done else "to add": [f"  {one}" for one in plan.added],
        "removed" if done else "to remove": [f"  {one}" for one in plan.removed],
        "to know": [f"  {path}: {text}" for path, text in remarks],
    }
    for title, section in sections.items():
        if section:
            lines += ["", title, *fitted(section, indent=4)]
    return lines


def _row(one: Planned) -> tuple[str, ...]:
    view = one.view
    words = [view.state, "" if view.config.rw else "read-only"]
    if one.in_use_by:
        words.append("in use by " + ", ".join(str(holder) for holder in one.in_use_by))
    elif view.running:
        words.append("left over")
    return (
        one.id,
        " ".join(word for word in words if word),
        view.config.kind,
        "" if view.current is None else str(view.current),
        ", ".join(str(number) for number in view.numbers),
        one.told_by,
        view.config.source or "",
    )


def _outcome(plan: Plan, known_as: str | None, *, done: bool) -> str:
    damaged = sum(not one.is_fit for one in plan.volumes)
    count = len(plan.volumes)
    counted = f"{count} volume{'' if count == 1 else 's'}" + (
        f", {damaged} damaged" if damaged else ""
    )
    if not done:
        return f"{plan.path}: {counted}; keeps {plan.keep}. Nothing was changed; --yes does it."
    known = f", known as {known_as}" if known_as else ""
    return f"{plan.path} is a pool now{known}: {counted}; keeps {plan.keep}"
