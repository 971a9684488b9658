"""The commands that keep runs for years: delete, prune, vacuum, repair, verify, copy."""
