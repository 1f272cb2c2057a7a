"""Files of fixes -> messages, each fix judged alone before anything is published.

  gpx.py        pure: GPX -> points
  judging.py    pure: points -> fixes, or why not
  lines.py      pure: JSON lines -> messages
  points.py     pure: what readers give, and the account of what came of it
  recording.py  a file of any kind, and what of it is wanted
  source.py     the bytes of a file, unpacked, and of what kind they are
  times.py      pure: times as recordings have them
  xml_text.py   pure: XML in any encoding -> text

Another format is a `Reader` (points.py), its sign in source.py, and a line in recording.py.
"""
