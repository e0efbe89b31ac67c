"""Errors a user can act on: each names the thing, both numbers, and the way out."""


class SppError(Exception):
    """Something the user can mend; the command line prints it without a traceback."""


class RecipeError(SppError):
    """The recipe, or the command line that changed it, says something impossible."""


class InputError(SppError):
    """An image, annotation, window file or weights file from outside is not what it must be."""


class UnreachableError(SppError, OSError):
    """An object store does not answer, or a folder is not mounted here: others may reach it."""
