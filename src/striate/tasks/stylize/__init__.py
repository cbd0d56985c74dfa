"""Style transfer by networks that paint at once, and what they are taught by."""
