"""The page: static files, no build step, nothing loaded from elsewhere. http/page.py says what is filled in.

app.js         what the page does
begin.js       where a race begins in its history
camera.js      which part of the world is in view
clock.js       the server's clock, as the page knows it
colours.css    light and dark
connection.js  one WebSocket that comes back by itself
cover.js       which edges of the map lie behind something
filter.js      which participants are shown
gaps.js        holes in the trails that are drawn, filled from history
gestures.js    fingers, mouse, wheel and keys on the map
ground.js      graticule and scale bar
history.js     pages of history, one at a time
icon.svg       its icon
index.html     the page
labels.js      names beside participants, where there is room
list.js        the list of participants, of which only visible rows exist
map.js         the map: draws when something has changed
markers.js     participants as dots, or thousands as cells
mercator.js    Web Mercator
pace.js        how often somebody sends, and which silence is a hole
palette.js     light or dark, and colours for a canvas
panel.js       one participant in detail
picker.js      the list of races
race.js        one race as the page knows it
recording.js   history in memory, and where everybody was at a moment
replay.js      the past, played again
session.js     the token and the race, as this tab remembers them
settings.js    what the page knows of the server's settings
state.js       what the page says of its connection
style.css      how it looks
text.js        values as people read them
tiles.js       map tiles, where some are set
trails.js      where participants came from
why.js         why a WebSocket does not open
"""
