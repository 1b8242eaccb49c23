"""Tests of nb_oomhelper.frameworks."""
