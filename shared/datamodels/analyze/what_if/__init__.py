"""Predict what models would say if training examples were removed, added or relabelled, and check it by training."""
