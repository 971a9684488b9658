"""How good a fit is."""
