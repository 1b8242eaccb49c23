"""Tests of nb_oomhelper.remedies."""
