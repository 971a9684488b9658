"""One typed client per service: domain types in and out, domain errors raised."""
