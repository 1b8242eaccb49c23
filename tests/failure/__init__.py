"""Tests of nb_oomhelper.failure."""
