"""Scripts inside Redis, each in one step: newest wins; and whether Redis was emptied."""

from __future__ import annotations

from hashlib import sha1

# KEYS: in a cluster all that it writes, but for those of the participants of races to forget, whom only Redis knows.
# ARGV: ttl in s; what stands before and behind the id of a race in a key; positions: an array in MessagePack, four
# items each, because an argument an item costs us more than all the rest; and the races to forget before, an array
# too. cmsgpack knows no bytes, only text.
# Ranks compare as text: 15 digits of ms, status, id in hex.
# `race:R:rank` is ours: without it (another writer's keys) the score in `race:R:seen` stands in.
WRITE = """
local races = {}
-- What somebody else put under our name must not keep other races from being written.
local function only(key, kind)
  local is = redis.call('TYPE', key).ok
  if is ~= kind and is ~= 'none' then redis.call('DEL', key) end
end
local given, forgotten = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
for _, id in ipairs(forgotten) do
  local race = ARGV[2] .. id .. ARGV[3]
  only(race .. ':seen', 'zset')
  for _, participant in ipairs(redis.call('ZRANGE', race .. ':seen', 0, -1)) do
    redis.call('DEL', race .. ':participant:' .. participant .. ':last')
  end
  redis.call('DEL', race .. ':seen', race .. ':rank')
end
for i = 1, #given, 4 do
  local race, participant, rank, value = ARGV[2] .. given[i] .. ARGV[3], unpack(given, i + 1, i + 3)
  local last = race .. ':participant:' .. participant .. ':last'
  if not races[race] then only(race .. ':seen', 'zset'); only(race .. ':rank', 'hash') end
  local held = redis.call('HGET', race .. ':rank', participant)
  if not held and redis.call('EXISTS', last) == 1 then
    local score = redis.call('ZSCORE', race .. ':seen', participant)
    held = score and string.format('%015d', tonumber(score))
  end
  if not held or held <= rank then
    redis.call('SET', last, value, 'EX', ARGV[1])
    redis.call('HSET', race .. ':rank', participant, rank)
    redis.call('ZADD', race .. ':seen', tonumber(rank:sub(1, 15)), participant)
    races[race] = true
  end
end
for race in pairs(races) do
  redis.call('EXPIRE', race .. ':seen', ARGV[1])
  redis.call('EXPIRE', race .. ':rank', ARGV[1])
end
"""

# KEYS: the sentinel. ARGV: its ttl in s; the mark of the last write that was answered ('' for none), that of this one,
# and whether anything was written with it ('' for no).
# The sentinel holds FOUND>MARK: a write, and which one it found intact ('' for none). So a write whose answer was lost
# is known by what it found, and one that came first into an emptied cache is not taken for it.
# It comes behind what it marks: a server that copies this one, and takes its place, has that too if it has the mark.
MARK = """
local held, seen = redis.pcall('GET', KEYS[1]), ARGV[2]
local found, mark = string.match(type(held) == 'string' and held or '', '^(%w*)>(%w+)$')
local was_there = seen ~= '' and (mark == seen or found == seen)
if was_there and ARGV[4] == '' then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], (was_there and seen or '') .. '>' .. ARGV[3], 'EX', ARGV[1])
end
return was_there
"""
SHA = {script: sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (WRITE, MARK)}
