"""How `spp` finds its commands, loads the one that is asked for, and explains it.

Loading all of them takes three seconds, for Ray, torch and DuckDB come with them: too long for
help, for a misspelt word, and for the completion of a shell.
"""

import gc
from collections.abc import Mapping
from importlib import import_module
from inspect import cleandoc
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

EXAMPLES = "Examples:"


class Listed(NamedTuple):
    """A command that is loaded when it is asked for."""

    module: str
    """Holds a function of the command's name."""
    told: str
    """The first sentence of what that function says of itself, without its end."""


class Commands(TyperGroup):
    """Commands by task."""

    listed: ClassVar[Mapping[str, Mapping[str, Listed]]]
    """By the title of their task, and by name."""
    names_only: ClassVar[str]
    """Title of commands that the help of all names without a word: they are many and alike."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._known = {name: one for held in self.listed.values() for name, one in held.items()}
        self._loaded: dict[str, Any] = {}
        self.commands = dict.fromkeys(self._known)  # pyright: ignore[reportAttributeAccessIssue]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None where none has that name."""
        del ctx
        if cmd_name not in self._known:
            return None
        if cmd_name not in self._loaded:
            module = _imported(self._known[cmd_name].module)
            one = typer.Typer(add_completion=False, rich_markup_mode=None)
            one.command(cmd_name, cls=Explained)(getattr(module, cmd_name.replace("-", "_")))
            self._loaded[cmd_name] = typer.main.get_command(one)
        return self._loaded[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what there is, by task, without loading it."""
        del ctx
        width = max(map(len, self._known)) + 2
        for title, held in self.listed.items():
            formatter.write(f"\n{title}:\n")
            if title == self.names_only:
                formatter.write(f"  {', '.join(held)}\n")
                continue
            for name, one in held.items():
                formatter.write(f"  {name:<{width}}{one.told}\n")

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands and options that begin like that."""
        from typer._click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=one.told)
            for name, one in self._known.items()
            if name.startswith(incomplete)
        ]
        return [*found, *TyperCommand.shell_complete(self, ctx, incomplete)]  # pyright: ignore[reportArgumentType]


def _imported(name: str) -> Any:
    """Return a module.

    What imports make is needed to the end: looking through it for garbage, again and again while it
    grows and once more when the interpreter leaves, is two of the five seconds a command takes.
    """
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


class Explained(TyperCommand):
    """A command whose docstring ends with examples: they follow its options, as they are."""

    def __init__(self, *given: Any, help: str | None = None, **settings: Any) -> None:
        told, _, self._examples = cleandoc(help or "").partition(f"\n\n{EXAMPLES}\n")
        super().__init__(*given, help=told, **settings)

    @property
    def examples(self) -> list[str]:
        """Commands to try, each with a comment or without."""
        return [line.strip() for line in self._examples.splitlines() if line.strip()]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        del ctx
        if self.examples:
            formatter.write(f"\n{EXAMPLES}\n")
            formatter.write("".join(f"  {line}\n" for line in self.examples))
