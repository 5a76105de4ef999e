--- multipart/form-data bodies (RFC 7578, names escaped as WHATWG browsers do).
--- Small parts stay in memory; files and generators are streamed.
local core = require "neap.core"
local body = require "neap.http.body"
local sorted = require "neap.sorted"

local find, format, gsub = string.find, string.format, string.gsub

local M = {}

---@class neap.http.Part
---@field name string
---@field value? string|number|boolean|function the content; a function gives chunks, then nil
---@field file? string path of a file to stream; `filename` defaults to its last component
---@field open? fun(): fun(): string? starts the content anew
---@field length? integer bytes of `open` or of a function, when known
---@field filename? string
---@field content_type? string
---@field headers? table<string, string> further headers of the part

local PART_KEYS = {
  name = { string = true }, file = { string = true }, open = { ["function"] = true },
  value = { string = true, number = true, boolean = true, ["function"] = true },
  length = { number = true }, filename = { string = true },
  content_type = { string = true }, headers = { table = true },
}

local ESCAPES = { ['"'] = "%22", ["\r"] = "%0D", ["\n"] = "%0A" }

local function quoted(text)
  return '"' .. gsub(text, '["\r\n]', ESCAPES) .. '"'
end

local function check_part(where, part)
  if type(part) ~= "table" then
    error(where .. ": a part must be a table, got " .. type(part), 0)
  end
  for key, value in sorted.all(part) do
    if not PART_KEYS[key] then error(("%s: a part has no '%s'"):format(where, tostring(key)), 0) end
    if not PART_KEYS[key][type(value)] then
      error(("%s: '%s' of a part cannot be a %s"):format(where, key, type(value)), 0)
    end
  end
  if not part.name then error(where .. ": a part needs a 'name'", 0) end
  local contents = (part.value ~= nil and 1 or 0) + (part.file and 1 or 0) + (part.open and 1 or 0)
  if contents ~= 1 then
    error(("%s: part '%s' needs exactly one of 'value', 'file' and 'open'"):format(where, part.name), 0)
  end
end

--- The parts in order: an array as given, then the named fields by name.
local function list_parts(where, fields)
  local parts, names = {}, {}
  for key in pairs(fields) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  for _, part in ipairs(fields) do
    check_part(where, part)
    parts[#parts + 1] = part
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = fields[name]
    local part = type(value) == "table" and value or { value = value }
    if part.name == nil then
      local copy = { name = name }
      for key, item in pairs(part) do copy[key] = item end
      part = copy
    end
    check_part(where, part)
    parts[#parts + 1] = part
  end
  return parts
end

local function safe_header(where, value)
  if find(value, "[\r\n%z]") then
    error(where .. ": a part's header must not hold CR, LF or NUL", 0)
  end
  return value
end

local function part_head(where, part)
  local disposition = "Content-Disposition: form-data; name=" .. quoted(part.name)
  local filename = part.filename or (part.file and part.file:match "[^/]*$")
  if filename then disposition = disposition .. "; filename=" .. quoted(filename) end
  local head = { disposition }
  local content_type = part.content_type or (filename and "application/octet-stream")
  if content_type then head[#head + 1] = "Content-Type: " .. safe_header(where, content_type) end
  local names = {}
  for name in pairs(part.headers or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    head[#head + 1] = safe_header(where, tostring(name)) .. ": " .. safe_header(where, tostring(part.headers[name]))
  end
  return table.concat(head, "\r\n") .. "\r\n\r\n"
end

local function part_content(where, part)
  if part.file then return body.of_file(part.file) end
  if part.open then return body.of_value(where, { open = part.open, length = part.length }) end
  if type(part.value) == "function" then return body.of_function(part.value, part.length) end
  return tostring(part.value)
end

--- A boundary that no part held in memory contains.
local function draw_boundary(contents)
  while true do
    local digits = {}
    for i = 1, 4 do digits[i] = format("%08x", math.floor(core.random() * 4294967296)) end
    local boundary = "neap-" .. table.concat(digits)
    local taken = false
    for _, content in ipairs(contents) do
      if type(content) == "string" and find(content, boundary, 1, true) then taken = true end
    end
    if not taken then return boundary end
  end
end

--- Joins neighbouring strings; what is left alternates strings and sources.
local function join_pieces(pieces)
  local joined, run = {}, {}
  for _, piece in ipairs(pieces) do
    if type(piece) == "string" then
      run[#run + 1] = piece
    else
      joined[#joined + 1] = table.concat(run)
      joined[#joined + 1] = piece
      run = {}
    end
  end
  joined[#joined + 1] = table.concat(run)
  return joined
end

--- Opens the pieces one after the other, each only when its turn comes.
local function open_pieces(pieces)
  local index, reader, close_reader = 0, nil, nil
  local function next_chunk()
    while true do
      if reader then
        local chunk, err = reader()
        if chunk or err then return chunk, err end
        close_reader()
        reader, close_reader = nil, nil
      end
      index = index + 1
      local piece = pieces[index]
      if piece == nil then return nil end
      if type(piece) == "string" then
        if piece ~= "" then return piece end
      else
        local opened, closer = body.open(piece)
        if not opened then return nil, closer end
        reader, close_reader = opened, closer
      end
    end
  end
  return next_chunk, function()
    if close_reader then close_reader() end
    reader, close_reader = nil, nil
  end
end

--- Encodes `fields`: an array of parts, and/or a map from a name to a value or a
--- part without its name. Returns the body and its content type. Misuse raises
--- (level 0); a file that cannot be read gives nil, nil, err. May wait (files).
---@param where string for messages
---@param fields table
---@return (string|neap.http.Source)? encoded, string? content_type, neap.Error? err
function M.encode(where, fields)
  local parts, contents = list_parts(where, fields), {}
  for i, part in ipairs(parts) do
    local content, err = part_content(where, part)
    if not content then return nil, nil, err end
    contents[i] = content
  end
  local boundary = draw_boundary(contents)
  local pieces = {}
  for i, part in ipairs(parts) do
    pieces[#pieces + 1] = "--" .. boundary .. "\r\n" .. part_head(where, part)
    pieces[#pieces + 1] = contents[i]
    pieces[#pieces + 1] = "\r\n"
  end
  pieces[#pieces + 1] = "--" .. boundary .. "--\r\n"
  pieces = join_pieces(pieces)
  local content_type = "multipart/form-data; boundary=" .. boundary
  if #pieces == 1 then return pieces[1], content_type end

  local length, restartable = 0, true
  for _, piece in ipairs(pieces) do
    if type(piece) == "string" then
      length = length and length + #piece
    else
      length = length and piece.length and length + piece.length
      restartable = restartable and piece.restartable
    end
  end
  return {
    length = length or nil,
    restartable = restartable,
    open = function() return open_pieces(pieces) end,
  }, content_type
end

return M
