"""The job server of a Ray cluster: what was submitted before, starting, following, stopping.

Ray refuses an id that was used, and does not support that a deleted one is used again. So a job
that is started again gets a number: `spp-digits-0a1b…`, then `spp-digits-0a1b…-2`.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from jobs.exit_codes import DONE, FAILED, INTERRUPTED, QUARANTINED, USAGE
from jobs.parcel import Parcel
from jobs.reaching import explained, probe, without
from pipeline.errors import InputError

POLL_S = 1.0
AGENT_S = 60  # a head that has just started answers some seconds before it takes jobs
STOP_S = 60  # Ray asks the job to end, and kills it after 3 s by default
# Ray lets them win over an address that was given.
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class JobServer:
    """The jobs of one cluster."""

    def __init__(self, address: str, client: JobSubmissionClient) -> None:
        self.address, self._client = address, client

    def attempts(self, name: str) -> list[JobDetails]:
        """Return the attempts at a job that the cluster knows of, the latest last."""
        with explained(self.address):
            listed = {each.submission_id: each for each in self._client.list_jobs()}
        numbers = {each: attempt_number(each, name) for each in listed if each is not None}
        known = sorted((number, each) for each, number in numbers.items() if number)
        return [listed[each] for _, each in known]

    def start(self, parcel: Parcel, after: JobDetails | None) -> str:
        """Send a job, as the attempt after the given one; return its submission id.

        Raises:
            InputError: the cluster does not take it.
        """
        number = 1 + ((attempt_number(id_of(after), parcel.name) or 0) if after else 0)
        submitted = parcel.name if number == 1 else f"{parcel.name}-{number}"
        with TemporaryDirectory() as folder:
            runtime_env = parcel.pack(Path(folder))
            self._send(
                entrypoint=parcel.command(), submission_id=submitted, runtime_env=runtime_env
            )
        return submitted

    def _send(self, **job: Any) -> None:
        end = time.monotonic() + AGENT_S
        while True:
            try:
                with explained(self.address):
                    self._client.submit_job(**job)
            except InputError as error:
                if "already exists" in str(error):  # another submitter was quicker
                    return
                if "No available agent" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def details(self, submitted: str) -> JobDetails:
        """Return what is known of an attempt."""
        with explained(self.address):
            return self._client.get_job_info(submitted)

    def follow(self, submitted: str, say: Callable[[str], None]) -> JobDetails:
        """Hand on what the job prints, until it ends.

        Raises:
            InputError: the cluster does not answer any more.
        """
        told = 0

        async def tail() -> None:
            nonlocal told
            at = 0
            async for text in self._client.tail_job_logs(submitted):
                if at + len(text) > told:
                    say(text[max(told - at, 0) :])
                at += len(text)
                told = max(told, at)

        while True:
            # The connection may close before the end, by a proxy that thinks it idle for one; then
            # the log comes once more from its beginning.
            with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
                asyncio.run(tail())
            details = self.details(submitted)
            if details.status.is_terminal():
                return details
            time.sleep(POLL_S)

    def stop(self, details: JobDetails) -> JobDetails:
        """Stop an attempt, if it has not ended; return what became of it.

        Raises:
            InputError: it has not ended within a minute.
        """
        if not details.status.is_terminal():
            with explained(self.address):
                self._client.stop_job(id_of(details))
        end = time.monotonic() + STOP_S
        while not (details := self.details(id_of(details))).status.is_terminal():
            if time.monotonic() > end:
                raise InputError(
                    f"{id_of(details)} was told to stop, and after {STOP_S} s it still runs"
                )
            time.sleep(POLL_S)
        return details


def connect(address: str) -> JobServer:
    """Return the job server at `http://HEAD:8265`.

    Raises:
        InputError: nothing answers there, or something else, or it refuses the token.
    """
    address = address if "://" in address else f"http://{address}"
    probe(address)
    with explained(address), without(ADDRESSES):
        return JobServer(address, JobSubmissionClient(address))


def attempt_number(submitted: str, name: str) -> int | None:
    """Return which attempt at the job a submission id stands for, or None.

    >>> attempt_number("spp-a-12", "spp-a-12"), attempt_number("spp-a-12-3", "spp-a-12")
    (1, 3)
    >>> attempt_number("spp-a-123", "spp-a-12")
    """
    found = re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", submitted)
    return int(found[1] or 1) if found else None


def exit_code(details: JobDetails) -> int:
    """Return the exit code of a job that ended: its own, where it lived to give one."""
    if details.status == JobStatus.SUCCEEDED:
        return DONE
    if details.status == JobStatus.STOPPED:
        return INTERRUPTED
    code = details.driver_exit_code
    return code if code in (USAGE, QUARANTINED) else FAILED


def is_done(details: JobDetails) -> bool:
    """Return whether the job did its work. To Ray, one with quarantined images has failed."""
    return details.status.is_terminal() and exit_code(details) in (DONE, QUARANTINED)


def id_of(details: JobDetails) -> str:
    """Return the submission id, which Ray may leave out only for jobs that nobody submitted."""
    return details.submission_id or ""


def sentence(details: JobDetails) -> str:
    """Return one line on a job: Ray's message, without the log that it ends with."""
    said = (details.message or "").partition(", last available logs")[0].partition("\n")[0]
    return f"{id_of(details)}: {details.status.lower()}. {said}"


def row(details: JobDetails, address: str) -> dict[str, Any]:
    """Return what `--json` says of a job."""
    return {
        "submission_id": id_of(details),
        "address": address,
        "status": str(details.status),
        "exit_code": exit_code(details) if details.status.is_terminal() else None,
        "message": sentence(details).partition(". ")[2],
        "began_ms": details.start_time,
        "ended_ms": details.end_time,
    }
