"""What a Kubernetes cluster is asked, by verb. `cluster.runner` and the command line are made from these."""
