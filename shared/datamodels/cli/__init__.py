"""The command line. `parser` declares every command; `runs` and `analyses` have their functions."""
