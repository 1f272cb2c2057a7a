"""The dashboard page: static files, no build step, nothing loaded from elsewhere.

pyproject.toml lists *.html, *.js, *.css and *.svg as package data; actors/http_page.py says what is filled in.
"""
