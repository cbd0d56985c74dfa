"""Part B: the architectures, their counts and their claims."""
