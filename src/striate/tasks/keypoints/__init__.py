"""Places of named points: schemes of points, networks, the task, how it is judged."""
