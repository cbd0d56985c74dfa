"""Photo scores."""
