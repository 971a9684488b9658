"""Renders what is known of a run: a few lines for the terminal, and one HTML page that needs nothing else.

Nothing is computed or read here: `analyze.findings` does that.
"""
