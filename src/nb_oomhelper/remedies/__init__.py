"""What can be done: fixes made ready for one notebook, run, measured and kept in mind."""
