"""Weights in memory, and long analyses of them."""
