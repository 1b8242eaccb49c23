"""Predicted against measured: what a fix is said to give back, and whether "fits" came true."""
