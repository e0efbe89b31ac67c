"""The command: which store, where it listens, and who may come in."""

import secrets
import socket
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from jobs import show
from jobs.asked import ask, is_made_in
from jobs.options import DataOption, RunsOption, SetOption, StoreArgument
from jobs.serve.apart import Apart
from jobs.serve.app import build
from jobs.serve.gate import is_loopback
from jobs.serve.patience import Patient
from pipeline.errors import InputError


def serve(
    store: StoreArgument,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond loopback a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SPP_TOKEN", help="Ask everybody for this; default: a new one where needed."
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Show image files of this folder only, and of others so named; needed for a "
            "store that no run in --runs made.",
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
) -> None:
    """Look, search and teach in the browser.

    Prints an address of this machine. With --host others are asked for the token that it prints.

    Examples:
        spp serve digits:test
        spp serve theirs/store --images photos/   # of a store that was made elsewhere
    """
    if token is not None and not token.strip():
        raise typer.BadParameter("--token is blank: leave it out, and one is made where needed")
    held = ask(store, runs, data, set_)
    # Who made a store has written into it where its images are, and may have named any file.
    shown_from = None if not images and is_made_in(runs, held) else images or []
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    with (
        closing(_listener(host, port)) as listener,
        closing(Apart(store, runs, data, set_)) as apart,
    ):
        app = build(held, token, apart.sql, shown_from)
        where = f"[{host}]" if ":" in host else host
        address = f"http://{where}:{listener.getsockname()[1]}/"
        show.say(f"{store}: {address}{f'?token={token}' if token else ''}")
        if shown_from == []:
            show.say(
                f"no picture is shown, for no run in {runs} made this store: --images FOLDER says "
                "where its images may be read from"
            )
        show.say("Ctrl-C ends it; marks are kept as they are made")
        config = uvicorn.Config(app, log_level="warning", access_log=False, http=Patient)
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens: its port is known, and taken, before anything is said."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror}): give another --port, or 0 for any"
        ) from None
    listener.listen(128)
    return listener
