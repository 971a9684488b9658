"""Run stages on a Kubernetes cluster, and submit, describe and cancel runs there."""
