"""The way to a cluster's job server, and all that may be wrong on it, each in one sentence."""

import contextlib
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError

from actors.resources import ANSWER_S
from pipeline.errors import InputError


def probe(address: str) -> None:
    """Check that a job server answers: Ray's client would wait for it without limit.

    Raises:
        InputError: it is not what its address should be, or nothing or something else answers.
    """
    place = urlsplit(address)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise InputError(f"{address} is no address of a Ray dashboard: give http://HEAD:8265")
    other = f"{address} answers, but not as a Ray dashboard with a job server does: give the "
    other += "head's http://HEAD:8265; it needs ray[default] there"
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=ANSWER_S) as said:
            answer = json.load(said)
        if not isinstance(answer, dict) or "ray_version" not in answer:
            raise InputError(other)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (401, 403):  # it asks for a token: the client has that
            raise InputError(f"{other} (it said {error.code})") from error
    except (ValueError, http.client.HTTPException) as error:  # it speaks, and not as a dashboard
        raise InputError(other) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"no Ray dashboard answers at {address} ({reason}): give the head's with "
            "--address http://HEAD:8265, and see that this machine may reach it"
        ) from error


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn what goes wrong between here and the cluster into one sentence.

    Raises:
        InputError: in place of Ray's errors, and the network's.
    """
    try:
        yield
    except AuthenticationError as error:
        raise InputError(f"{address} {_token_trouble(str(error))}") from error
    except OSError as error:
        raise InputError(f"lost the cluster at {address}: {_last_line(error)}") from error
    except RuntimeError as error:
        raise InputError(f"{address} refused: {_last_line(error)}") from error


def _token_trouble(said: str) -> str:
    way_out = (
        "RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or in ~/.ray/auth_token "
        "(or where RAY_AUTH_TOKEN_PATH says)"
    )
    if "Forbidden" in said:
        return f"refuses the token that is set here: set {way_out}"
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return f"asks for a token, and RAY_AUTH_MODE is not token here: set {way_out}"
    return f"may ask for a token, and there is none here: set {way_out}"


def _last_line(error: Exception) -> str:
    """Return what the server said last of all: it sends the traceback of its own error."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines()]
    return next((line for line in reversed(lines) if line not in ("", ".")), repr(error))


@contextlib.contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """Hide environment variables while the block runs."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray's client from telling of every upload and every connection."""
    before: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
