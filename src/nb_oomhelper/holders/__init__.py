"""Who keeps the memory."""
