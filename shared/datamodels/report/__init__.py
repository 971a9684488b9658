"""What a run came to: a few lines for the terminal, and one HTML page that needs nothing else."""
