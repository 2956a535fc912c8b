"""Profiles in the forms that leave the machine: one file for each."""
