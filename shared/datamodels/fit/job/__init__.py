"""Fits as jobs: progress, checkpoints, and finished fits in the store."""
