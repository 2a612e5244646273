-- The check of a sliding window in its short form; see present.lua.
local kept, used, heldUs = 0, 0, now
local base, before, offset, sum, length, last, tail
if value then
  length = #value
  if length < first + 5 or sub(value, 1, start - 1) ~= header or fmod(length - first + 1, 6) ~= 0 then break end
  kept, base, before = unpacked('>I6I7I4', value, start)
  offset, sum = unpacked('>I4I2', value, length - 5)
  last = base + offset
  local ahead = last - cell + 1
  if ahead > now then
    if ahead - now > period then break end
    heldUs = ahead
  end
  local edge = heldUs - period - base
  if offset > edge then
    tail = first
    if unpacked('>I4', value, first) <= edge then
      -- The first entry that is still in the window, and the sum up to the one before it.
      local low, high = 1, (length - first + 1) / 6 - 1
      while low < high do
        local middle = floor((low + high) / 2)
        if unpacked('>I4', value, first + middle * 6) > edge then high = middle else low = middle + 1 end
      end
      tail = first + low * 6
      before = unpacked('>I2', value, tail - 2)
    end
    used = fmod(sum - before + 65536, 65536)
  end
end
local total = used + cost
if total <= capacity then
  local entered = heldUs - fmod(heldUs, cell) + cell - 1
  if used > 0 and entered < last then entered = last end
  -- A log this long after its base is written anew by the general path.
  if used > 0 and entered - base > 4294967295 then break end
  if kept * 1000 < entered + period then
    ms = ceil((entered + period - now) / 1000) + 1 + linger
    kept = floor(now / 1000) + ms
  end
  if used == 0 then
    text = header .. packed('>I6I7I4I4I2', kept, entered, 0, 0, cost)
  else
    text = header .. packed('>I6I7I4', kept, base, before) .. sub(value, tail, entered == last and -7 or -1)
      .. packed('>I4I2', entered - base, fmod(sum + cost, 65536))
  end
else
  text = false
end
o = o + 1
out[o] = used * 2
if used > 0 then
  o = o + 1
  out[o] = last - now
  if total > capacity and cost <= capacity then
    -- The first entry with whose leaving enough has left.
    local surplus = total - capacity
    local low, high = (tail - first) / 6, (length - first + 1) / 6 - 1
    while low < high do
      local middle = floor((low + high) / 2)
      local reached = fmod(unpacked('>I2', value, first + middle * 6 + 4) - before + 65536, 65536)
      if reached >= surplus then high = middle else low = middle + 1 end
    end
    o = o + 1
    out[o] = base + unpacked('>I4', value, first + low * 6) + period - now
  end
end
