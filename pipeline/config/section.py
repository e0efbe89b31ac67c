"""What every table of a recipe is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of a recipe: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
