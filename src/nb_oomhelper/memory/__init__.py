"""The figures: what the driver, the frameworks' allocators and the machine say of memory."""
