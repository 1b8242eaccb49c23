"""Everything that shows the program to work, from plain functions to a browser."""
