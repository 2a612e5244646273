-- The check of a token bucket; see present.lua.
local kept, tat, part = 0, now, 0
if value then
  if #value ~= width or sub(value, 1, start - 1) ~= header then break end
  kept, tat, part = unpacked('>I6I7I4', value, start)
  if tat < now then
    if part == 0 or tat < now - 1 then tat, part = now, 0 end
  elseif tat > far then
    break
  end
end
o = o + 1
out[o] = (tat - now) * 2
tat = tat + costUs
if parts > 1 then
  o = o + 1
  out[o] = part
  local total = part + costPart
  part = fmod(total, parts)
  tat = tat + (total - part) / parts
end
if tat > fullUs or (tat == fullUs and part > fullPart) then
  text = false
else
  if kept * 1000 < tat + 2 then
    ms = ceil((tat + 2 - now) / 1000) + 1 + linger
    kept = floor(now / 1000) + ms
  end
  text = header .. packed('>I6I7I4', kept, tat, part)
end
