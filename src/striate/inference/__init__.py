"""Using a model: pictures in, results out, judged or predicted, one at a time or by the million."""
