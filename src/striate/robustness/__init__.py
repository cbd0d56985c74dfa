"""How a trained model's answers hold when pictures get harder, and the picture that shows it."""

from striate.robustness.measure import Curve, Grade, Robustness, known_names, measure_robustness, writable

__all__ = ["Curve", "Grade", "Robustness", "known_names", "measure_robustness", "writable"]
