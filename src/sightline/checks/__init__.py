"""Checks of data before training and of a finished run, each in a file of its own.

Nothing is imported here: a look at the data does not wait for what only a verification needs.
"""
