"""What a Kubernetes cluster is asked, by verb. `runners.kubernetes` and the command line are made from these."""
