"""What sits in IPython's shell: hooks, magics, settings, and the cells that a click runs."""
