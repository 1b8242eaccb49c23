"""Tests of nb_oomhelper.holders."""
