"""The user's source text: where in it a call stands, and the same call with one argument changed."""
