"""Estimate the time and the cost of a run beforehand."""
