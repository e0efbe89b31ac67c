"""How often each shard was computed, which neither its bytes nor its record's time can tell."""

from collections import Counter
from pathlib import Path

from jobs.events import EVENTS, read_events


def computed(runs: Path) -> Counter[str]:
    """Count what the logs of extractions tell, by job and shard; one found there has no seconds."""
    return Counter(
        f"{folder.name}/{event['shard_id']}"
        for folder in runs.glob("jobs/extract_*")
        for event, _ in read_events(folder / EVENTS)
        if event["kind"] == "shard_committed" and event["seconds"]
    )
