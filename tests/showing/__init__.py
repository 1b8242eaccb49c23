"""Tests of nb_oomhelper.showing."""
