"""Say how the examples of a run look to people, and keep that in the store."""
