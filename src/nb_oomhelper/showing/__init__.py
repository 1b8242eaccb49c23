"""A case in words and on the screen: sentences, report, tables, front ends."""
