"""The process of a search: `python -m jobs.serve.searcher NAMED`, see `apart`."""

import json
import os
import resource
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from jobs.asked import ask
from jobs.serve.searching import SEARCH_S, Searching, memory_bytes
from pipeline import machine
from pipeline.errors import SppError

BESIDE_BYTES = 1 << 30  # of libraries, and of vectors that are read


def main() -> None:
    """Answer the questions that come, until there come no more."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    named, runs, data, set_ = json.loads(sys.argv[1])
    asked = Searching(ask(named, Path(runs), None if data is None else Path(data), set_))
    # Of memory that is its own: maps of shards' files count to none.
    limit = memory_bytes() + BESIDE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    never = threading.Event()
    print(json.dumps({}), file=out, flush=True)
    for line in sys.stdin:
        query, start, size = json.loads(line)
        # Of the processors, as long as a search may last: also where nobody is there to end it.
        spent_s = resource.getrusage(resource.RUSAGE_SELF)
        most_s = spent_s.ru_utime + spent_s.ru_stime + (SEARCH_S + 10) * machine.cpus()
        resource.setrlimit(resource.RLIMIT_CPU, (int(most_s), resource.RLIM_INFINITY))
        try:
            answer = asdict(asked.sql(query, start, size, never))
        except (SppError, OSError) as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": "the query takes more memory than a search may: narrow it"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the server has gone
        os._exit(0)
