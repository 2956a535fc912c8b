"""Trivial applications, as a user has them, for `end-to-end`: each a module that a server imports from this folder.

They know nothing of shmetrics; `measured`, which each ends with, puts around them what the environment asks for.
"""
