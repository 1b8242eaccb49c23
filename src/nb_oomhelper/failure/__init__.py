"""Which exception it is.

Found among those behind it, read by the frameworks' rules; its place, its phase, and what is kept of its cell.
"""
