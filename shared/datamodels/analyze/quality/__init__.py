"""Measure how good a fit is."""
