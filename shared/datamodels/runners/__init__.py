"""Where the stages of a run take place. A runner brings up services and trains chunks; `pipeline` does the rest."""
