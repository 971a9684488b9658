"""Keep runs for years: delete, prune, vacuum, repair, verify and copy what the store has of them."""
