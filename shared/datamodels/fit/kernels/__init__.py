"""Compiled loops and array kernels of the fit."""
