"""Baselines that need the gradients of networks, or differentiate through their trainings."""
