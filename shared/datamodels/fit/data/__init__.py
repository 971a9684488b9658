"""What a fit reads: problems, rows, and the sums over them."""
