"""`spp serve`: a web page over a store, to look, to search and to teach."""

from jobs.serve.command import serve

__all__ = ["serve"]
