"""Connections that ask for nothing are ended: else few visitors could take all there are."""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0  # from a connection to the end of its request's first lines
SHARE = 2  # of the files that the process may open, connections take one part of so many


class Patient(H11Protocol):
    """HTTP, for whoever asks within `REQUEST_S`, and for so many at once that files can be read."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a request, if there is room for one."""
        super().connection_made(transport)
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what comes; the first bytes of a further request have to have an end, too."""
        self._wait()
        super().data_received(data)

    def _wait(self) -> None:
        if self._late is None:
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(REQUEST_S, self._end_silence)

    def _end_silence(self) -> None:
        self._late = None
        idle = self.cycle is None or self.cycle.response_complete
        if not idle or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():  # an answer is on its way, over a slow line
            self._wait()
        else:
            self.transport.abort()
