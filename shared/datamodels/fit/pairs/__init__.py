"""Describe pairs of a target and a column by features that are made from inputs and labels, before any training."""
