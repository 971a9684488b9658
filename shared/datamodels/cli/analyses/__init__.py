"""Commands about results: what a run found, and how good it is. `commands` and `questions` declare them."""
