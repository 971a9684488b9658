"""Render the findings of a run: as a few lines for the terminal, and as one HTML page without other files.

Nothing is computed or read here: `analyze.findings` does that.
"""
