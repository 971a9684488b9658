"""Run the stages of a run, on this machine or on a cluster. `pipeline` is the same for both."""
