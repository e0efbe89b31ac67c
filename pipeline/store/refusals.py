"""What the errors of an object store mean, and in which words a person hears of them.

The libraries below raise dozens of kinds of errors, some without a word.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.errors import InputError, UnreachableError

CONFLICT, PRECONDITION = 409, 412  # of HTTP
# botocore's errors without an answer after which it asks again, by the names of their classes.
_REPEATED = {"ConnectionError", "HTTPClientError"}


@contextmanager
def told(path: str, asked: str, writes: bool = False) -> Iterator[None]:
    """Say which object could not be reached, and what to do.

    Args:
        path: of the object.
        asked: what was to be done with it, as "read" or "created".
        writes: whether that works without the object; with its bucket it would.

    Raises:
        FileNotFoundError: there is no such object.
        InputError: there is no such bucket to write to.
        UnreachableError: anything else.
    """
    try:
        yield
    except FileNotFoundError as error:
        if not writes:
            raise FileNotFoundError(f"{path} could not be {asked}: {error}") from None
        raise InputError(
            f"{path} could not be {asked} ({error}): is there a bucket "
            f"{path.partition('://')[2].partition('/')[0]}? Correct the address, or make the bucket"
        ) from error
    except (InputError, UnreachableError):
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        tries = " after several tries" if _was_repeated(error) else ""
        raise UnreachableError(
            f"{path} could not be {asked}{tries} ({said}). Look at the address, "
            "the credentials and the store's own status, then run the same command again: "
            "what is committed stays"
        ) from error


def http_status(error: BaseException) -> int | None:
    """Return the number that S3 answered with, or None where there was no answer."""
    return _answer(error).get("HTTPStatusCode")


def _was_repeated(error: BaseException) -> bool:
    """Whether it was asked more than once: what is refused for good is not."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return _answer(error).get("RetryAttempts", 0) > 0 or not _REPEATED.isdisjoint(kinds)


def _answer(error: BaseException) -> Mapping[str, Any]:
    """Return what botocore notes of an answer; s3fs raises errors of its own because of them."""
    response = getattr(error.__cause__, "response", None)
    return response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
