"""A load that failed, or that is planned."""
