"""What the weights of a fit show: clusters, components, conflicts, leaks, suspicious examples."""
