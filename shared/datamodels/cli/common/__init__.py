"""Define what the commands share: options, output, the store and the query service."""
