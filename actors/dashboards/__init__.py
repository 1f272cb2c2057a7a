"""The ports; each connection becomes a dashboard with an actor of its own, an answer of HTTP, or a refusal.

deflate.py     pure: permessage-deflate: what is agreed on, messages to blocks of DEFLATE and back
endings.py     pure: how the connection of a dashboard ends
events.py      pure: positions and events -> JSON, once a change
extension.py   permessage-deflate for what comes in, under the WebSocket library
frames.py      pure: frames plain and deflated, shared by the dashboards that want them
handshake.py   who may open a WebSocket: the request head, judged before any library sees it
listener.py    ACTOR: the ports; a request becomes a dashboard, an answer of HTTP, or a refusal
outbox.py      pure: frames for one dashboard: bounded; overflow -> resync
ports.py       the sockets that listen, their certificate
rate.py        pure: how many requests a dashboard may make
requests.py    pure: one text frame of a dashboard -> a request, or an error
subscriber.py  ACTOR: one dashboard
waiting.py     connections that wait for a request
websocket.py   driver: one WebSocket: trio-websocket reads, prebuilt frames are written beside it
"""
