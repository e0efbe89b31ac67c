"""Who has least in hand: known at once, however many extractors there are."""

from collections import OrderedDict

from actors.actor import Actor
from actors.extractor import SHARDS_IN_HAND


class Bench:
    """Actors that take another shard."""

    def __init__(self) -> None:
        self._with: list[OrderedDict[Actor, None]] = [OrderedDict() for _ in range(SHARDS_IN_HAND)]
        """By how many they have in hand; of those with as many, the longest so first."""

    def note(self, actor: Actor, takes: bool) -> None:
        """Take note of how much an actor has in hand now, and whether it takes another one."""
        for in_hand, actors in enumerate(self._with):
            if takes and in_hand == len(actor.flights):
                actors.setdefault(actor)
            else:
                actors.pop(actor, None)

    def least(self, alone: bool) -> Actor | None:
        """Return who has least in hand; for a plan that is to be alone, somebody with nothing."""
        groups = self._with[:1] if alone else self._with
        return next((actor for actors in groups for actor in actors), None)
