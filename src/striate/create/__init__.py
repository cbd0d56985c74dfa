"""Pictures made by networks: the style of a painting on a photo."""

from striate.create.style import Painting, stylize
from striate.create.styled import Progress, Styled

__all__ = ["Painting", "Progress", "Styled", "stylize"]
