"""One typed client per service. Its methods take and return arrays and core types, and raise datamodels.errors."""
