"""The core of the query service: weights in memory, and long analyses of them."""
