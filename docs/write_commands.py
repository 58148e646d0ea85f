"""Write docs/commands.md: what `lifecycle COMMAND --help` says, for every command. `make docs` runs this."""

import os
import sys

import click

from lifecycle.cli.app import COMMANDS, cli

HEAD = """\
# Commands

Written by `make docs` from the commands themselves; a test fails when it is stale.

Every command takes `--pool`, a pool's directory or the name that it is known by (else `$LIFECYCLE_POOL`, else
`/var/lib/lifecycle` for root and the XDG data directory, usually `~/.local/share/lifecycle`, for others), `--json` and
`--verbose`, before its own name or behind it (`lifecycle --pool X list`, `lifecycle list --pool X`); of an option given
twice, the later counts. A TARGET is a VM or a volume, `VM/NAME`; `POOL:VM` and `POOL:VM/NAME` are those of another
known pool.

Exit status: 0 done, 1 failed, 2 usage, 3 refused (not allowed in this state, vetoed, in use).
"""
COMMON = {"pool", "as_json", "verbose"}
WIDTH = 100


def page() -> str:
    """Return the whole page."""
    top = click.Context(cli, info_name="lifecycle", max_content_width=WIDTH)
    parts = [HEAD]
    for topic, names in COMMANDS.items():
        parts.append(f"## {topic.capitalize()}\n")
        parts.extend(part for name in names for part in _sections(top, cli, name))
    return "\n".join(parts)


def _sections(top: click.Context, group: click.Group, name: str) -> list[str]:
    """Return a command's section; of a group of commands, one of each."""
    command = group.get_command(top, name)
    if command is None:
        raise LookupError(name)
    if isinstance(command, click.Group):
        inner = click.Context(command, info_name=name, parent=top)
        return [part for one in command.commands for part in _sections(inner, command, one)]
    return [_section(top, command, " ".join([*top.command_path.split()[1:], name]))]


def _section(top: click.Context, command: click.Command, title: str) -> str:
    name = command.name
    own = [one for one in command.params if one.name not in COMMON]
    shown = click.Command(
        name, params=own, help=command.help, callback=command.callback, add_help_option=False
    )
    context = click.Context(
        shown, info_name=name, parent=top, max_content_width=WIDTH, terminal_width=WIDTH
    )
    return f"### {title}\n\n```text\n{shown.get_help(context)}\n```\n"


if __name__ == "__main__":
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "commands.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page())
    sys.stdout.write(f"{path}\n")
