"""Suites: evaluations that end in one robust accuracy for each sample, not in one for each attack.

Names and settings are in ``spec`` (no torch); ``command`` is what ``run --suite`` calls.
"""
