"""An S3 server on loopback, in this process; it can be told to fail."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

BUCKET = "spp"
REFUSALS = {
    "503": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "409": ("409 Conflict", "ConditionalRequestConflict", "A conflicting request is under way."),
    # As stores other than Amazon's say it: that one adds which condition it was.
    "412": ("412 Precondition Failed", "PreconditionFailed", "It did not hold."),
    "403": ("403 Forbidden", "AccessDenied", "Access Denied"),
}


class _Quiet(MotoRequestHandler):
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing."""


@dataclass
class Failing:
    """What the server does to the next requests."""

    method: str
    """PUT, GET, ...; empty for all."""
    part: str
    """Of the address; empty for all."""
    times: int
    answer: str
    """One of `REFUSALS`; `late`: does what it is asked, and answers too late; `hang`: only answers
    too late."""
    late_s: float = 0.0
    seen: int = field(default=0)


class S3Server:
    """Start with `with`; `failing` is a list of what is to go wrong."""

    def __init__(self) -> None:
        self.failing: list[Failing] = []
        self.requests: list[tuple[str, str]] = []
        """Method and path of all that was asked, in order."""
        self.asked_leave: list[str] = []
        """Paths of requests that waited for a word before they sent their bytes."""
        self.sent_bytes = 0
        """Of what was read, without heads of answers."""
        self._app = create_backend_app("s3")
        self._one_at_a_time = threading.Lock()
        self._stopped = threading.Event()
        self._server = make_server("127.0.0.1", 0, self._answer, True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "S3Server":
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """What a program needs to know to use this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Never the address where machines of a cloud ask who they are.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        path = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        self.requests.append((method, path))
        if environ.get("HTTP_EXPECT"):
            self.asked_leave.append(path)
        failing = self._next(method, path)
        if failing is not None and failing.answer != "late":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            self._stopped.wait(failing.late_s)
            status, code, text = REFUSALS.get(failing.answer, REFUSALS["503"])
            start(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()]
        # moto looks for the object, and then puts it: two puts of "only where there is none" could
        # both find none. A real store decides that in one step, and so does one request at a time.
        with self._one_at_a_time:
            answer = list(self._app(environ, start))
            self.sent_bytes += sum(map(len, answer)) if method == "GET" else 0
        if failing is not None:
            self._stopped.wait(failing.late_s)
        return answer

    def _next(self, method: str, path: str) -> Failing | None:
        for failing in self.failing:
            matches = failing.method in ("", method) and failing.part in path
            if matches and failing.seen < failing.times:
                failing.seen += 1
                return failing
        return None
