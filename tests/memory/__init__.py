"""Tests of nb_oomhelper.memory."""
