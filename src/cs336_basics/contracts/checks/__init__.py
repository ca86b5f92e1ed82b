"""Checks at run time: the authority that refuses, and straight lines that accept."""
