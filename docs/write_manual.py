"""Write docs/lifecycle.1, the man page: what commands say of themselves, and the tables of these docs.

`make docs` runs this; the wheel puts the page where `man lifecycle` finds it. What stands nowhere else is written here.
"""

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

import click
from write_commands import COMMON

from lifecycle import __version__
from lifecycle.cli.app import COMMANDS, cli
from lifecycle.report.drawing.chart import MEANINGS, chart

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "lifecycle.1")
DATE = "2026-11-25"
"""When what is written in this file was last changed."""

DESCRIPTION = """\
A host says "this VM is about to start" and "this VM has stopped". **lifecycle** gives the VM a private copy-on-write
image to write to, keeps what it wrote as the new state of its disk, keeps the states before as numbered revisions,
and takes the disk back to any of them, down to the empty disk it was born as.

Disks are files in a *pool*, a directory on a file system with reflinks (XFS, btrfs; on another one, `init --loop`
embeds an XFS). A *VM* is a directory inside the pool, a *volume* is one disk of a VM: *VM/NAME*. A TARGET is a VM,
which means all of its volumes, or a volume. *POOL:VM* and *POOL:VM/NAME* are those of another pool that this machine
knows.

A volume is of one of three kinds. A persistent one (`create VM/NAME --size 10G`) keeps what the VM wrote: a stop
commits. A disposable one (`create VM/NAME --source OTHER/NAME`) begins each time from its source's current image, and
a volatile one (`create VM/NAME --size 10G --volatile`) from an empty image; their stops throw away.

Retention (see below) decides which revisions stay. What a state does not allow is refused, and changes nothing."""

EXIT_STATUS = {
    "0": "Done.",
    "1": "Failed: standard error says what, and what to do. Of `verify` and the like: something is not as it"
    " should be.",
    "2": "Called wrongly: an unknown option, or a name, size, policy or setting that cannot be.",
    "3": "Refused: not allowed in the volume's state, vetoed by a hook, or in use. What is refused has changed"
    " nothing.",
    "130": "Interrupted (Ctrl-C). What was begun is finished or dropped at the next event.",
}
AFTER_EXIT_STATUS = (
    "`run` exits as its COMMAND did, with 128 and the number of the signal if one ended it, 126 or 127 if it cannot be"
    " run; if a volume cannot be stopped, with 1 or 3."
)

ENVIRONMENT = {
    "LIFECYCLE_POOL": "The pool, by its directory or by the name that it is known by, where `--pool` is not given.",
    "LIFECYCLE_CONFIG": "The directory of the machine's settings, instead of /etc/lifecycle (of root) or"
    " ~/.config/lifecycle.",
    "XDG_DATA_HOME": "Of other users than root, the pool is here by default: in $XDG_DATA_HOME/lifecycle, else in"
    " ~/.local/share/lifecycle.",
    "XDG_CONFIG_HOME": "Of other users than root, the machine's settings are here: in $XDG_CONFIG_HOME/lifecycle, else"
    " in ~/.config/lifecycle.",
    "JOURNAL_STREAM": "Set by systemd. Where standard error is the journal, the log goes there with its fields, and"
    " each transition is told of.",
    "SERVICE_RESULT": "Set by systemd; how a unit ended, for `stop --ending service-result`.",
}
AFTER_ENVIRONMENT = (
    "A command that `run` starts finds the path of each volume's working image in LIFECYCLE_NAME, with the volume's"
    " name in capital letters: LIFECYCLE_ROOT. Programs in hooks.d get LIFECYCLE_HOOK, LIFECYCLE_POOL and"
    " LIFECYCLE_VOLUME."
)

PLACES = {
    "/var/lib/lifecycle": "The pool of root, where nothing else is said.",
    "/etc/lifecycle": "The machine's settings, of root; below it:",
}

EXAMPLES = {
    "A pool, and the disk of a VM:": (
        'lifecycle init /srv/vms --keep "last 5, 7 daily"',
        "export LIFECYCLE_POOL=/srv/vms",
        "lifecycle create ci-42/root --size 10G",
    ),
    "A VM that commits what it wrote when it ends:": (
        "lifecycle run ci-42 -- qemu-system-x86_64 \\",
        "    -drive file={root},format=raw,discard=unmap",
    ),
    "Look at what is kept, go back to revision 3, and to the empty disk:": (
        "lifecycle log ci-42/root",
        "lifecycle revert ci-42/root --to 3",
        "lifecycle revert ci-42/root --to empty",
    ),
    "By hand, around any hypervisor:": ("lifecycle start ci-42", "lifecycle stop ci-42"),
    "At boot, after a crash of the host, and every day:": (
        "lifecycle recover --all-pools",
        "lifecycle prune --all-pools",
    ),
    "What the states are, as a picture:": ("lifecycle diagram --format svg >states.svg",),
}

SEE_ALSO = (
    ("btrfs", 8),
    ("cp", 1),
    ("ioctl_ficlonerange", 2),
    ("mkfs.xfs", 8),
    ("qemu-img", 1),
    ("systemd.service", 5),
    ("virsh", 1),
)


# ---------------------------------------------------------------- roff


def escaped(text: str) -> str:
    """Return text as it must be written for troff to print it."""
    signs = {"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga", "'": "\\(aq"}
    return "".join(signs.get(one, one if one.isascii() else f"\\[u{ord(one):04X}]") for one in text)


_MARKED = re.compile(
    r"`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*|\[([^]]+)\]\([^)]*\)|([^`*\[]+|.)", re.DOTALL
)


def inline(text: str) -> str:
    """Return Markdown for troff: what stands in backquotes or two stars is bold, in one star italic."""
    found = []
    for code, strong, slanted, link, plain in _MARKED.findall(text):
        if code or strong:
            found.append(f"\\fB{escaped(code or strong)}\\fR")
        elif slanted:
            found.append(f"\\fI{escaped(slanted)}\\fR")
        else:
            found.append(inline(link) if link else escaped(plain))
    return "".join(found)


def filled(text: str) -> str:
    """Return Markdown for troff in lines as long as its readers want them; none of them looks like a request."""
    lines = textwrap.wrap(
        inline(" ".join(text.split())), 79, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in lines)


def sentence(text: str) -> str:
    """Return the words of a table as a sentence."""
    begun = re.sub(r"^(\[?)([a-z])", lambda found: found[1] + found[2].upper(), text)
    return begun if begun.endswith(("…", ".")) else f"{begun}."


def paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs, the first one without a break before it."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        yield filled(paragraph)


def items(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a list of things that are explained; each is Markdown."""
    for what, explained in rows:
        yield ".TP"
        yield inline(what)
        yield filled(explained) if explained else "\\&"


def usage(text: str) -> str:
    """Return words of a command line: what is to be replaced is italic, what is to be typed is bold."""
    return " ".join(
        f"\\fB{escaped(word)}\\fR"
        if word.strip("[").startswith("-")
        else f"\\fI{escaped(word)}\\fR"
        for word in text.split()
    ).replace(",\\fR", "\\fR,")


# ---------------------------------------------------------------- commands


def found_in(
    group: click.Group, context: click.Context, names: Iterable[str]
) -> Iterator[click.Context]:
    """Yield the context of each command, of those in groups too."""
    for name in names:
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from found_in(command, inner, command.commands)
        else:
            yield inner


def options(context: click.Context, params: Iterable[click.Parameter]) -> Iterator[str]:
    """Yield what options there are; one that explains nothing is explained by its values."""
    for param in params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None:
            yield ".TP"
            yield usage(record[0])
            yield filled(record[1]) if record[1] else "\\&"


def commands(top: click.Context) -> Iterator[str]:
    """Yield each command, by topic: how it is called, what it does, its own options."""
    for topic, names in COMMANDS.items():
        yield f".SS {escaped(topic.capitalize())}"
        for context in found_in(cli, top, names):
            command = context.command
            own = [one for one in command.params if one.name not in COMMON]
            pieces = [one for one in command.collect_usage_pieces(context) if one != "[OPTIONS]"]
            flags = ["[OPTIONS]"] if any(isinstance(one, click.Option) for one in own) else []
            yield ".TP"
            name = " ".join(context.command_path.split()[1:])
            yield f"\\fB{escaped(name)}\\fR {usage(' '.join([*flags, *pieces]))}".rstrip()
            yield ".RS"
            yield from paragraphs(command.help or "")
            yield from options(context, own)
            yield ".RE"


def common(top: click.Context) -> Iterator[str]:
    """Yield the options of every command, and those of none."""
    context = next(found_in(cli, top, COMMANDS["pools"]))
    given = {one.name: one for one in (*context.command.params, *cli.params)}
    yield from options(context, (given[name] for name in sorted(COMMON, reverse=True)))
    yield from items([("**-h**, **--help**", "Say how a command is called, and end.")])
    yield from items(
        [("**--version**", "Of no command: say which version of lifecycle this is, and end.")]
    )


# ---------------------------------------------------------------- what the other pages have


def read(name: str) -> str:
    """Return a page of the docs."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def paragraph(page: str, beginning: str) -> str:
    """Return the paragraph of a page that begins like this."""
    for one in page.split("\n\n"):
        if one.startswith(beginning):
            return one
    raise LookupError(f"no paragraph begins with {beginning!r}")


def table(page: str, after: str) -> list[list[str]]:
    """Return the rows of the first table after these words, without its head."""
    before, words, rest = page.partition(after)
    found = re.search(r"^\|[-| ]+\|\n((?:\|.*\|\n)+)", rest, re.MULTILINE)
    if not words or found is None:
        raise LookupError(f"no table after {after!r} ({len(before)} characters before it)")
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in found[1].splitlines()]


def settings() -> Iterator[str]:
    """Yield the settings of pools and volumes, from their page."""
    for title, after, where in (
        ("Of a pool", "## A pool's", "In its pool.toml, which `init` writes."),
        ("Of a volume", "## A volume's", "Given to `create`, changed with `set`."),
    ):
        yield f".SS {title}"
        yield filled(where)
        yield from items(
            (key, sentence(meaning) + (f" Default: {default}." if default else ""))
            for key, default, meaning in table(read("settings.md"), after)
        )


def retention() -> Iterator[str]:
    """Yield the terms of a policy, from their page."""
    page = read("retention.md")
    yield filled(paragraph(page, "A policy is one line"))
    yield from items((term, sentence(keeps)) for term, keeps in table(page, "# Retention"))
    yield ".PP"
    yield filled(paragraph(page, "Never removed"))


def files() -> Iterator[str]:
    """Yield where files are: the machine's from the page of settings, a pool's from the page of files."""
    yield from items((f"*{path}*", text) for path, text in PLACES.items())
    yield ".RS"
    rows = table(read("settings.md"), "## A machine's")
    yield from items((f"*{name.strip('`')}*", sentence(text)) for name, text in rows)
    yield ".RE"
    shown = re.findall(r"^(POOL/\S.*?) {2,}(.*)$", read("files.md"), re.MULTILINE)
    yield from items((f"*{path}*", sentence(text)) for path, text in shown)


def states() -> Iterator[str]:
    """Yield the states, and what can happen in each, from the rules."""
    for state, meaning in MEANINGS.items():
        events = dict.fromkeys(arrow.event for arrow in chart().arrows if arrow.leaves(state))
        yield ".TP"
        yield f"\\fB{escaped(state)}\\fR"
        yield filled(f"{sentence(meaning)} Events: {', '.join(events)}.")


def examples() -> Iterator[str]:
    """Yield each example, set in."""
    for number, (what, lines) in enumerate(EXAMPLES.items()):
        yield from (".PP",) * bool(number)
        yield filled(what)
        yield from (".PP", ".RS 4", ".nf", *(escaped(line) for line in lines), ".fi", ".RE")


# ---------------------------------------------------------------- the page


def page() -> str:
    """Return the whole page."""
    top = click.Context(cli, info_name="lifecycle", **cli.context_settings)
    sections: dict[str, Iterable[str]] = {
        "NAME": [r"lifecycle \- undoable disks for virtual machines"],
        "SYNOPSIS": [r"\fBlifecycle\fR \fICOMMAND\fR [\fIOPTION\fR]... [\fIARGUMENT\fR]..."],
        "DESCRIPTION": paragraphs(DESCRIPTION),
        "OPTIONS OF EVERY COMMAND": common(top),
        "COMMANDS": commands(top),
        "STATES": states(),
        "RETENTION": retention(),
        "SETTINGS": settings(),
        "EXIT STATUS": [*items(EXIT_STATUS.items()), ".PP", filled(AFTER_EXIT_STATUS)],
        "ENVIRONMENT": [*items(ENVIRONMENT.items()), ".PP", filled(AFTER_ENVIRONMENT)],
        "FILES": files(),
        "EXAMPLES": examples(),
        "SEE ALSO": [", ".join(rf"\fB{escaped(name)}\fR({section})" for name, section in SEE_ALSO)],
    }
    lines = [
        r".\" Written by `make docs`, from the commands and the docs.",
        f'.TH LIFECYCLE 1 "{DATE}" "lifecycle {__version__}" "User Commands"',
        ".nh",  # names are not to be broken
        ".ad l",
    ]
    for title, body in sections.items():
        lines += [f".SH {title}", *body]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page())
    sys.stdout.write(f"{PAGE}\n")
