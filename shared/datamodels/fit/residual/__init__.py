"""Fit weights in two steps: a prior mean made of features of pairs, then what the outputs say beyond it."""
