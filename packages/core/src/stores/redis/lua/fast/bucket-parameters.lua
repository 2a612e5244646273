-- A token bucket's parameters: header linger costUs fullUs farUs [parts costPart fullPart].
local header, linger = ARGV[at], ARGV[at + 1] + 0
local costUs, fullUs, far = ARGV[at + 2] + 0, now + ARGV[at + 3], now + ARGV[at + 4]
-- Left out, or empty where others follow, when the emission interval is whole.
local parts, costPart, fullPart = tonumber(ARGV[at + 5] or '') or 1, 0, 0
if parts > 1 then costPart, fullPart = ARGV[at + 6] + 0, ARGV[at + 7] + 0 end
local width, start = #header + 17, #header + 1
