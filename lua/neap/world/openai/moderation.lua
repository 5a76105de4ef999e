--- OpenAI's moderation endpoint as far as the mock speaks it: scores that depend
--- on the input's bytes alone; about one input in eight is flagged.
local M = {}

local CATEGORIES = { "harassment", "hate", "illicit", "self-harm", "sexual", "violence" }
local FLAGGED_ABOVE = 0.98 -- for each of the six categories

--- What one part of an input contributes.
local function part_text(part)
  if type(part) ~= "table" then return nil end
  if part.type == "text" and type(part.text) == "string" then return part.text end
  local image = part.type == "image_url" and part.image_url
  return type(image) == "table" and type(image.url) == "string" and image.url or nil
end

--- The inputs of a request, one a result: a string, an array of strings, or an
--- array of parts (text and images), which together are one input.
---@param body table
---@return string[]? inputs
---@return string? message
---@return string? param
function M.inputs(body)
  local input = body.input
  if type(input) == "string" then return { input } end
  if type(input) ~= "table" or #input == 0 then
    return nil, "'input' must be a string, an array of strings or an array of parts", "input"
  end
  local parts, strings = {}, type(input[1]) == "string"
  for i, item in ipairs(input) do
    local text = strings and item or part_text(item)
    if type(text) ~= "string" then
      return nil, ("'input[%d]' must be a %s"):format(i - 1, strings and "string" or "part with text or image_url"),
        "input"
    end
    parts[i] = text
  end
  return strings and parts or { table.concat(parts, "\n") }
end

--- A number in [0, 1) that hangs on at most a thousand of the text's bytes.
local function score(text, salt)
  local hash, step = salt * 7919 + #text, math.max(1, math.floor(#text / 1000))
  for i = 1, #text, step do hash = (hash * 31 + text:byte(i)) % 2147483647 end
  for _ = 1, 3 do hash = hash * 16807 % 2147483647 end
  return hash / 2147483647
end

--- The verdict on one input.
---@param input string
---@return table
function M.result(input)
  local categories, scores, flagged = {}, {}, false
  for i, name in ipairs(CATEGORIES) do
    scores[name] = score(input, i)
    categories[name] = scores[name] > FLAGGED_ABOVE
    flagged = flagged or categories[name]
  end
  return { flagged = flagged, categories = categories, category_scores = scores }
end

return M
