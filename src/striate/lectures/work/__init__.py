"""Part C: classification at work."""
