"""Looking at a data set: what is in it, what is wrong with it, how it looks."""
