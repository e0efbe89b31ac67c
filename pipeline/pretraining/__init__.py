"""Training whole networks from nothing: images, sizes, schedule, step, states (SPEC §10)."""
