"""Find patterns in the weights of a fit: clusters, components, conflicts, leaks, suspicious examples."""
