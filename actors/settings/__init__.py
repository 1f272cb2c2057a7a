"""settings.ini and environment -> frozen Settings, or every problem at once.

ini.py       pure: the text of a settings file -> sections, and faults of form
load.py      settings.ini and environment -> frozen Settings, or every problem at once
problems.py  pure: how problems of the settings read
rules.py     rules between keys
table.py     one row a key: default, parser, range
tile_url.py  pure: where map tiles come from
values.py    pure: the text of one key -> its value
written.py   settings -> the text of a settings file
"""
