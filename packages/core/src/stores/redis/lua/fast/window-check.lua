-- The check of a fixed window; see present.lua.
local kept, from, used = 0, fresh, 0
if value then
  if #value ~= width or sub(value, 1, start - 1) ~= header then break end
  kept, from, used = unpacked('>I6I7I4', value, start)
  if from + period <= now then from, used = fresh, 0 elseif from - now > period then break end
end
o = o + 1
out[o] = used * 2
if used > 0 then
  o = o + 1
  out[o] = from - now
end
if used + cost > capacity then
  text = false
else
  if kept * 1000 < from + period then
    ms = ceil((from + period - now) / 1000) + 1 + linger
    kept = floor(now / 1000) + ms
  end
  text = header .. packed('>I6I7I4', kept, from, used + cost)
end
