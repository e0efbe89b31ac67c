"""What a request asks for, as far as it can be read; what cannot be is said, and what it weighs."""

import asyncio
import json
import re
import threading
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float
from starlette.exceptions import HTTPException
from starlette.requests import Request

BROWSER_COOKIE = "spp_browser"
MOST_OF_A_NAME = MOST_OF_A_WHY = 100
MOST_BODY_BYTES = 1 << 16  # a mark has some 200
BODY_S = 10.0  # that a body may take to arrive
MOST_PX = 1e9  # of an edge of a box
_BROWSER = re.compile(r"[0-9a-f]{6}")


def text(request: Request, name: str) -> str:
    """Return a part of the address that has to be there."""
    given = request.query_params.get(name, "")
    if not given:
        raise HTTPException(400, f"the address lacks {name}=…")
    return given


def number(request: Request, name: str, default: int) -> int:
    """Return a number of the address, no less than 0."""
    given = request.query_params.get(name, "")
    try:
        return max(0, int(given)) if given else default
    except ValueError:
        raise HTTPException(400, f"{name}={given} is no whole number") from None


def box(request: Request) -> Float[np.ndarray, " 4"] | None:
    """Return the box of the address, if it has one."""
    given = request.query_params.get("box", "")
    if not given:
        return None
    try:
        corners = np.array([float(edge) for edge in given.split(",")])
    except ValueError:
        corners = np.zeros(0)
    if corners.shape != (4,) or not (np.abs(corners) < MOST_PX).all():
        raise HTTPException(400, f"box={given} is not x_min,y_min,x_max,y_max")
    return corners


def name(request: Request) -> str:
    """Return the name that a person gave in the browser; empty where none was given."""
    return unquote(request.cookies.get("spp_who", ""))[:MOST_OF_A_NAME].strip()


def browser(request: Request) -> str:
    """Return what tells a browser apart from others; empty at its first visit."""
    given = request.cookies.get(BROWSER_COOKIE, "")
    return given if _BROWSER.fullmatch(given) else ""


def who(request: Request) -> str:
    """Return whose marks these are: two who give no name are two all the same."""
    return name(request) or "-".join(filter(None, ("somebody", browser(request))))


async def content(request: Request) -> dict[str, Any]:
    """Return the object in JSON that a request brings."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                data += part
                if len(data) > MOST_BODY_BYTES:
                    told = f"more than {MOST_BODY_BYTES:,} bytes are not taken at once"
                    raise HTTPException(413, told)
    except TimeoutError:
        raise HTTPException(408, f"nothing came for {BODY_S:g} s: send it again") from None
    try:
        asked = json.loads(data)
        json.dumps(asked, ensure_ascii=False).encode()  # half a character of UTF-16 is no text
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise HTTPException(400, "an object in JSON is expected")
    return asked


def why(asked: dict[str, Any]) -> str:
    """Return where on the page a mark was made: it is kept with the mark, for good."""
    given = str(asked.get("from", ""))
    if len(given) > MOST_OF_A_WHY:
        said = f"from has {len(given):,} characters: at most {MOST_OF_A_WHY} are kept with a mark"
        raise HTTPException(400, said)
    return given


async def leave(request: Request, left: threading.Event) -> None:
    """Wait until nobody waits for the answer any more, and say so."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    left.set()
