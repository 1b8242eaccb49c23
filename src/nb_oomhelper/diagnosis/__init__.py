"""Why the request did not fit, and what would not help."""
