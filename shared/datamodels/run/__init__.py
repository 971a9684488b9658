"""Runs: specs, designs of subsets, data sets, and the record of a run in the store."""
