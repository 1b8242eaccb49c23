"""What travels from the exception to the panel: frozen records.

They hold numbers and text only: never an exception, a traceback, a frame or a tensor, because whoever
keeps the exception keeps the memory that is meant to come back. Sizes are bytes; None is "unknown".
"""
