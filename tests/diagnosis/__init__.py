"""Tests of nb_oomhelper.diagnosis."""
