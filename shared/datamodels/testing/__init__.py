"""Help for tests: reference implementations."""
