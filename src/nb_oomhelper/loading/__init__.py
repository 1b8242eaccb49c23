"""A load that failed, or that is planned: the call, what it needs, and how else it could be made."""
