"""Calls to a Kubernetes cluster and what they say, for `cluster.runner` and the command line."""
