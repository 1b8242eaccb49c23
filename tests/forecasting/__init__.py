"""Tests of nb_oomhelper.loading."""
