"""Commands about pools: create, show and check them; and the command that prints the rulebook."""

from __future__ import annotations

import click

from lifecycle.cli.app import command, complete, targets_argument
from lifecycle.cli.invocation import COMPLETES, FAILED
from lifecycle.cli.session import Session, fitted, print_line
from lifecycle.errors import InvalidName, Unsupported
from lifecycle.report import documents
from lifecycle.sizes import format_size

_REFLINKS = {
    True: "yes",
    False: "no: each start copies the whole image",
    None: "not known without writing; the first start tells",
}


@command("init", short_help="Make a directory a pool.")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(readable=False))
@click.option(
    "--driver",
    metavar="NAME",
    help="What keeps the images: reflink, the default; directory, for a tree of ready images that VMs"
    " share and no one changes; or what a package offers.",
)
@click.option("--keep", metavar="POLICY", help='What to keep, as in "last 5, 7 daily".')
@click.option(
    "--no-setup-check",
    is_flag=True,
    help="Accept a file system without reflinks: each start copies the image.",
)
@click.option(
    "--loop",
    metavar="SIZE",
    help="Embed an XFS of this size (sparse) for a file system without reflinks; needs root.",
)
@click.option("--name", help="What this machine knows the pool as; by default DIR's own name.")
def init_command(
    session: Session,
    directory: str | None,
    driver: str | None,
    keep: str | None,
    no_setup_check: bool,
    loop: str | None,
    name: str | None,
) -> None:
    """Make DIR (by default the pool's directory) a pool, and let this machine know it by a name.

    Images that lie in its subdirectories become volumes as they are.
    """
    from lifecycle import config  # noqa: PLC0415 - keeps --help quick
    from lifecycle.engine.pool import Pool  # noqa: PLC0415 - keeps --help quick

    pool = Pool.create(
        directory or session.path,
        driver=driver or config.DEFAULT_DRIVER,
        keep=config.DEFAULT_KEEP if keep is None else keep,
        loop=loop,
        setup_check=not no_setup_check,
    )
    let_be_known(pool.path, name)
    document = documents.of_pool(session.watched(pool), Pool.open)
    session.say(document, f"{pool.path} is a pool now: {_summary(document)}")


def _summary(document: documents.Document) -> str:
    """Say in a few words what a new pool can do; one that cannot be written to has volumes, or is of no use."""
    if document["reflinks"] is None:
        return f"driver {document['driver']}, {document['volumes']} volumes"
    how = "reflinks" if document["reflinks"] else "no reflinks: each start copies the whole image"
    free = format_size(document["size"] - document["usage"])
    return f"{free} free, {how}, keeps {document['keep']}"


def let_be_known(path: str, name: str | None) -> str | None:
    """Let this machine know the pool, and return by what name; without that it is a pool all the same."""
    from lifecycle.machine import known_pools  # noqa: PLC0415 - keeps --help quick

    try:
        return known_pools.enter(path, name).name
    except (InvalidName, Unsupported, OSError) as error:
        print_line(f"lifecycle: {path} is a pool, but not known by a name: {error}", on_stderr=True)
    return None


@command("pool", short_help="Show the pool.")
def pool_command(session: Session) -> None:
    """Show the pool: where it is, how full, what it keeps, what holds its file system."""
    from lifecycle.engine.pool import Pool  # noqa: PLC0415 - keeps --help quick

    document = documents.of_pool(session.pool, Pool.open)
    if session.as_json:
        session.say(document)
        return
    from lifecycle.cli import terminal  # noqa: PLC0415 - slow to load, and not needed for JSON

    rows = {
        "path": document["path"],
        "driver": document["driver"],
        "size": f"{_size(document['size'])}, {_size(document['usage'])} used",
        "reflinks": _REFLINKS[document["reflinks"]],
        "volumes": document["volumes"],
        "keep": document["keep"],
        "retention": document["retention"],
        "included in": document["included_in"],
    }
    terminal.print_pool({name: text for name, text in rows.items() if text is not None})


def _size(size: int | None) -> str:
    return "unknown" if size is None else format_size(size)


@command("pools", short_help="Show all pools that this machine knows.")
def pools_command(session: Session) -> None:
    """Show all pools that this machine knows by a name, and which of them holds which.

    In the total no space counts twice: not that of pools on one file system, nor that of a pool inside another.
    """
    from lifecycle.engine.pool import Pool  # noqa: PLC0415 - keeps --help quick

    found = documents.of_known_pools(Pool.open)
    if session.as_json:
        session.say(found)
        return
    from lifecycle.cli import terminal  # noqa: PLC0415 - slow to load, and not needed for JSON

    terminal.print_pools(found)


@command("verify", short_help="Check the pool's files; change nothing.")
@targets_argument(required=False)
def verify_command(session: Session, targets: tuple[str, ...]) -> None:
    """Name every file that is damaged, left behind by a crash, or not of this pool.

    Exit status 1 if anything is damaged.
    """
    found = [
        one
        for pool, vms in session.vms(targets).items()
        for vm in (vms if targets else [None])
        for one in pool.verify(vm)
    ]
    lines = [f"{'DAMAGED' if one.harmful else 'note':8}{one.path}: {one.text}" for one in found]
    said = fitted(lines, indent=8) or ["all is well"]
    session.say([documents.of_finding(one) for one in found], *said)
    if any(one.harmful for one in found):
        session.exit_status = FAILED


@command("diagram", short_help="Print the state machine.")
@click.argument("volume_id", metavar="[VM/NAME]", required=False, shell_complete=complete)
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "dot", "svg", "table"]),
    default="mermaid",
    show_default=True,
    help="svg is a picture as it is, mermaid and dot are for programs that draw, table is Markdown.",
)
def diagram_command(session: Session, volume_id: str | None, form: str) -> None:
    """Print the state machine, with a volume's state marked if one is named.

    In SVG the state is lit, and the events that do not leave it are faded.
    """
    from lifecycle.report import diagrams  # noqa: PLC0415 - only here

    marked = session.volume(volume_id).state if volume_id else None
    text = diagrams.FORMATS[form](marked)
    session.say({"format": form, "state": marked, "diagram": text}, *text.rstrip("\n").split("\n"))


@command("completion", short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(session: Session, shell: str) -> None:
    """Print a script that completes commands, volumes and VMs: eval "$(lifecycle completion bash)"."""
    from lifecycle.cli import completion  # noqa: PLC0415 - only here
    from lifecycle.cli.app import cli  # noqa: PLC0415 - it imports this module

    asked = completion.SHELLS[shell](cli, {}, "lifecycle", COMPLETES)
    script = asked.source()
    session.say({"shell": shell, "script": script}, *script.split("\n"))
