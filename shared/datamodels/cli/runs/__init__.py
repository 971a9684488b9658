"""Commands about runs: plan, start, follow and stop them. `commands` declares them."""
