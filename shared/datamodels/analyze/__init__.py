"""Analyse fitted weights: one module for each analysis, with pure functions."""
