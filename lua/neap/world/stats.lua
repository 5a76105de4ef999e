--- What arrived at an upstream, so that a test can prove how often each request
--- did, and how many were there at a time. Everything is counted at arrival; a
--- request is *open* from its arrival until its answer is out or its client has
--- left. Pure: times are arguments.
local M = {}

---@class neap.world.Stats
---@field count integer requests that have arrived
---@field open integer
---@field max_open integer the most of them that `note_peak` was told
---@field left integer requests whose clients did not stay for an answer
---@field statuses table<string, integer> of those that have ended, by outcome
---@field by_id table<string, integer>
---@field by_body table<string, integer>
---@field logs boolean whether `rows` has something to tell
local Stats = {}
Stats.__index = Stats

--- An empty account.
---@param start number seconds; times are told relative to it
---@param logs? boolean false: counts only, nothing is kept of a single request
---@return neap.world.Stats
function M.new(start, logs)
  return setmetatable({ start = start, count = 0, open = 0, max_open = 0, left = 0,
    by_id = {}, by_body = {}, statuses = {}, logs = logs ~= false,
    ids = {}, paths = {}, arrivals = {}, durations = {}, outcomes = {} }, Stats)
end

--- Outcomes as text; there are few.
local texts = {}

local function text_of(outcome)
  texts[outcome] = tostring(outcome)
  return texts[outcome]
end

local function add_one(counts, key)
  counts[key] = (counts[key] or 0) + 1
end

--- A request has arrived. Columns instead of a table each: 40 bytes a request.
---@param id string? its X-Client-Request-Id
---@param path string
---@param body string? nil or "": not counted by body
---@param now number seconds
---@return integer index for `finish`
function Stats:arrive(id, path, body, now)
  local index = self.count + 1
  self.count, self.open = index, self.open + 1
  if id then add_one(self.by_id, id) end
  if body and body ~= "" then add_one(self.by_body, body) end
  if not self.logs then return index end
  self.ids[index] = id or false
  self.paths[index] = path
  self.arrivals[index] = now - self.start
  self.durations[index] = false
  self.outcomes[index] = false
  return index
end

--- So many were there at a time.
---@param open integer
function Stats:note_peak(open)
  if open > self.max_open then self.max_open = open end
end

--- Its answer is out, or will never be.
---@param index integer
---@param outcome integer|"drop"|"hang"|"disconnect" an HTTP status, or what came instead
---@param duration number seconds from arrival to answer out, or to the client's leaving
function Stats:finish(index, outcome, duration)
  self.open = self.open - 1
  if outcome == "disconnect" or outcome == "hang" then self.left = self.left + 1 end
  add_one(self.statuses, texts[outcome] or text_of(outcome))
  if not self.logs then return end
  self.durations[index] = duration
  self.outcomes[index] = outcome
end

--- The counts, for JSON.
---@param now number seconds
---@return table
function Stats:summary(now)
  return { requests = self.count, in_flight = self.open, max_in_flight = self.max_open, uptime = now - self.start,
    statuses = self.statuses, by_id = self.by_id, by_body = self.by_body }
end

--- Requests `first` to `last` in order of arrival, as a comma-separated list of
--- JSON objects: id, path, arrived and duration (seconds), status. A request that
--- is still open has null for the last two.
---@param first integer
---@param last integer
---@param encode fun(text: string): string JSON of a string
---@return string
function Stats:rows(first, last, encode)
  local rows = {}
  for i = first, self.logs and math.min(last, self.count) or 0 do
    local outcome, duration = self.outcomes[i], self.durations[i]
    rows[#rows + 1] = ('{"id":%s,"path":%s,"arrived":%.6f,"duration":%s,"status":%s}'):format(
      self.ids[i] and encode(self.ids[i]) or "null", encode(self.paths[i]), self.arrivals[i],
      duration and ("%.6f"):format(duration) or "null",
      not outcome and "null" or type(outcome) == "number" and outcome or '"' .. outcome .. '"')
  end
  return table.concat(rows, ",")
end

--- One line for people: "1000 requests: 940 x 200, 40 x 429, 20 x drop".
---@return string
function Stats:line()
  local names, parts = {}, {}
  for name in pairs(self.statuses) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = ("%d x %s"):format(self.statuses[name], name) end
  if self.open > 0 then parts[#parts + 1] = ("%d unanswered"):format(self.open) end
  return ("%d request%s%s"):format(self.count, self.count == 1 and "" or "s",
    #parts > 0 and ": " .. table.concat(parts, ", ") or "")
end

return M
