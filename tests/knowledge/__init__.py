"""Tests of nb_oomhelper.knowledge."""
