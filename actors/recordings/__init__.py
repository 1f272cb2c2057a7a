"""Recordings: files of fixes -> messages, each fix judged alone before anything is published.

Another format is a `Reader` (points.py), its sign in source.py, and a line in recording.py.
"""
