"""What networks cost to run, side by side, and the picture of accuracy against cost: `striate bench models`."""
