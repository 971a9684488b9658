"""gRPC: the server shell, its interceptors, the array codec, and one typed client per service."""
