"""The thin Ray edge: placement, retries, back-pressure, progress. Nothing is computed here."""
