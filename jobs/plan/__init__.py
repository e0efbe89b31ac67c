"""`spp plan`, file by file: what it says (`command`), on a screen (`screen`), and from where.

`stores` has images, windows, shards and both kinds of store; `space` what every stage writes and
what is free; `jobs.memory` a worker's memory; `probing` measures a few images, `hours` makes hours
and a price of that; `record` keeps what was projected, and `measured` reads what came of it.
"""

from jobs.plan.command import plan

__all__ = ["plan"]
