"""Estimators beside the LASSO."""
