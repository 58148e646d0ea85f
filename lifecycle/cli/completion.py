"""Shell completion: the volumes, VMs and pools whose names begin with what was typed.

How this works. Click asks each parameter what there is, and speaks with zsh and fish, which quote what they insert.
Bash inserts what it is given, and takes a word to begin anew at some characters (`:` and `=` by default), so it has a
script of ours. That hands over the line as it stands up to the cursor; here it is taken apart as bash does it, and what
comes back is what belongs in the place of bash's own last piece. Where that has characters that the shell gives a
meaning, bash is told to quote it as it does the names of files.
"""

from __future__ import annotations

import os
import re
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

_BASH = """\
%(complete_func)s() {
    local line kind
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%%%,*}
        case $kind in
            dir) compopt -o filenames -o plusdirs; continue ;;
            file) compopt -o filenames -o default; continue ;;
            special) compopt -o filenames ;;
            open) compopt -o nospace ;;
        esac
        COMPREPLY+=("${line#*,}")
    done < <(
        %(complete_var)s=bash_complete COMP_LINE="${COMP_LINE:0:COMP_POINT}" \\
            COMP_WORDBREAKS="$COMP_WORDBREAKS" "$1" 2> /dev/null
    )
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_NEEDS_QUOTES, _ESCAPED = r"[^\w%+,./:=@-]", r"\\\g<0>"
_BLANK = " \t\n"


class Bash(BashComplete):
    """Bash, told by a script that hands over the line."""

    source_template = _BASH

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._before = ""
        self._kept = 0
        self._is_quoted = False
        self._escapes = False

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is to be completed, and that one."""
        if "COMP_LINE" not in os.environ:
            return super().get_completion_args()
        breaks = os.environ.get("COMP_WORDBREAKS", _BLANK)
        words, piece, quote = split(os.environ["COMP_LINE"], breaks)
        self._is_quoted = bool(quote)
        *args, word = words
        # of --option=value click completes the value alone
        option, equals, value = word.partition("=")
        wanted = value if equals and option.startswith("-") else word
        self._before = word[: len(word) - len(wanted)]
        self._kept = len(word) - len(piece)
        return args[1:], word

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the completions.

        Bash can be left to quote them, but for `$` and backquotes, which it takes for what it is to replace.
        """
        found = super().get_completions(args, incomplete)
        self._escapes = not self._is_quoted and any(set("$`") & set(one.value) for one in found)
        return found

    def format_completion(self, item: CompletionItem) -> str:
        """Return a completion as the script takes it: its kind, and what belongs in the place of bash's piece."""
        if item.type != "plain":
            return f"{item.type},{item.value}"
        value = f"{self._before}{item.value}"[self._kept :]
        if self._escapes:
            return f"plain,{re.sub(_NEEDS_QUOTES, _ESCAPED, value)}"
        if re.search(_NEEDS_QUOTES, value):
            return f"special,{value}"
        return f"{'open' if value.endswith(':') else 'plain'},{value}"


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": ZshComplete, "fish": FishComplete}
"""The shells by name."""
add_completion_class(Bash)


def split(line: str, breaks: str) -> tuple[list[str], str, str]:
    """Take a line apart as bash does, up to where the cursor is.

    Args:
        line: the line, of which the last word is what is to be completed; it may be empty.
        breaks: the characters at which bash begins another piece of a word, if they are not quoted.

    Returns:
        the words, without their quotes; of the last one what bash takes for it; and the quote that it stands in.
    """
    words, word, piece, quote = [], "", "", ""
    is_begun = is_escaped = False
    for char in line:
        if is_escaped:
            is_escaped = False
            # in double quotes a backslash stands for itself before most
            text = char if quote != '"' or char in '"\\$`' else f"\\{char}"
            word, piece = word + text, piece + text
        elif char == "\\" and quote != "'":
            is_begun = is_escaped = True
        elif quote:
            if char == quote:
                quote = ""
            else:
                word, piece = word + char, piece + char
        elif char in "'\"":
            quote, is_begun, piece = char, True, ""
        elif char in _BLANK:
            if is_begun:
                words.append(word)
            word, piece, is_begun = "", "", False
        else:
            is_begun = True
            word += char
            piece = "" if char in breaks else piece + char
    return [*words, word], piece, quote
