"""The jobs of classification: what images as a whole show (paper §3)."""
