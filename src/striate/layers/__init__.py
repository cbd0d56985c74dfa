"""The vocabulary of networks: for now the arithmetic of sizes, counts and receptive fields (`striate.layers.sizes`)."""
