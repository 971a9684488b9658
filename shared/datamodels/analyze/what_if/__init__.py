"""What models would say if training examples were removed, added or relabelled."""
