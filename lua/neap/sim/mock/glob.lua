--- Texts in which "*" stands for anything, nothing included. Pure.
local M = {}

--- Whether texts are as `wanted` says. Between stars the first place that fits is taken,
--- so that it costs at most the product of both lengths.
---@param wanted string
---@return fun(text: string): boolean
function M.new(wanted)
  local pieces = {}
  for piece in (wanted .. "*"):gmatch "([^*]*)%*" do pieces[#pieces + 1] = piece end
  local first, last = pieces[1], pieces[#pieces]
  if #pieces == 1 then return function(text) return text == first end end
  return function(text)
    if #text < #first + #last or text:sub(1, #first) ~= first then return false end
    local at, stop = #first + 1, #text - #last
    for i = 2, #pieces - 1 do
      local from, to = text:find(pieces[i], at, true)
      if not from or to > stop then return false end
      at = to + 1
    end
    return text:sub(stop + 1) == last
  end
end

return M
