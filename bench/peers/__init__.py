"""What we are measured against: each a script of its own, ordinary code, one JSON object on its last line."""
