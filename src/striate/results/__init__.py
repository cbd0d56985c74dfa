"""What a prediction is: typed results that print, draw, save and become JSON."""

from striate.results.classification import Classification
from striate.results.detections import Detections
from striate.results.keypoints import Keypoints
from striate.results.rating import Rating
from striate.results.result import Failure, Result, as_pillow, picture_format, save_picture
from striate.results.styled import Styled
from striate.results.words import percent, visible

__all__ = [
    "Classification",
    "Detections",
    "Failure",
    "Keypoints",
    "Rating",
    "Result",
    "Styled",
    "as_pillow",
    "percent",
    "picture_format",
    "save_picture",
    "visible",
]
