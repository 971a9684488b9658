"""Analyses over fitted weights: one module each, pure functions."""
