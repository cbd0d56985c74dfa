"""How the loss lies around a network's weights."""
