"""gRPC: the server, its interceptors, conversion of arrays, and one typed client per service."""
