"""What single units of a network look for."""
