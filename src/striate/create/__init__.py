"""Pictures made by networks: the style of a painting on a photo."""

from striate.create.progress import Progress
from striate.create.style import Painting, stylize
from striate.results import Styled

__all__ = ["Painting", "Progress", "Styled", "stylize"]
