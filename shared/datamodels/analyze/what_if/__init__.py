"""Predict outputs if training examples were removed, added or relabelled, and check the predictions by training."""
