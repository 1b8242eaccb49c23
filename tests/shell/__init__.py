"""Tests of nb_oomhelper.shell."""
