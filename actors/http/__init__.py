"""HTTP: requests answered, tokens judged; the descriptions of both APIs.

access.py        who may look at what: tokens, origins, the secret that signs the tokens
api.py           the routes: API, probes, metrics
asyncapi.json    WebSocket: every message, code and close
coding.py        pure: content codings: which one an answer gets, and how it is made piece by piece
compress.py      answers compressed for clients that ask for it, in slices
documents.py     descriptions of the APIs, and what operators load: /api/*.json, /ops/
export.py        a whole race as a download, with flat memory
files.py         a file from memory, with its ETag
gate.py          what holds for every HTTP request and response
head.py          pure: the head of an HTTP request
openapi.json     HTTP: every route and answer
page.py          the page and its files
problem.py       pure: what an HTTP client is told when something is wrong
query.py         pure: paths and query strings -> values, or what is wrong
query_fields.py  pure: what clients ask of history, and the sentences where they may not
schemas.json     shapes that both have
server.py        one request of HTTP/1.1 to the application, its answer back
stream.py        the bytes under one connection: put back, written whole
"""
