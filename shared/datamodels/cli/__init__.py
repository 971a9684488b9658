"""The command line: `datamodels --help`."""
