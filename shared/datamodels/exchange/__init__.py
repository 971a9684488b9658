"""Import and export: runs from arrays of other programs, and arrays for other programs from runs."""
