"""Part A: what a convolutional network is made of."""
