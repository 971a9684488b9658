"""Input of a fit: problems, rows, and sums over them."""
