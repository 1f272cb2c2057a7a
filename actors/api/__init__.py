"""OpenAPI and AsyncAPI descriptions of what dashboards use; actors/http_documents.py puts them together.

schemas.json is in both of them. Tests compare every limit, pattern, code and route in them with the code.
"""
