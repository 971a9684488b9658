"""Solvers of the LASSO."""
