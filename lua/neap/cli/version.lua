--- `neap version`: neap's version and that of every library in it.
local core = require "neap.core"

local M = {
  name = "version",
  summary = "show the versions of neap and its libraries",
  usage = "neap version",
  options = {},
}

--- One line per library: neap first, the others by name.
---@param versions table<string, string>
---@return string
function M.text(versions)
  local names, width = {}, #"neap"
  for name in pairs(versions) do
    if name ~= "neap" then
      names[#names + 1] = name
      width = math.max(width, #name)
    end
  end
  table.sort(names, function(a, b) return a:lower() < b:lower() end)
  local lines = { "neap " .. (versions.neap or "unknown") }
  for _, name in ipairs(names) do
    local version = tostring(versions[name])
    -- Libraries that say their own name: "LuaJIT 2.1.0", "libcurl/7.88.1 OpenSSL/3".
    if version:sub(1, #name) == name then version = version:sub(#name + 1):gsub("^[ /]", "") end
    lines[#lines + 1] = ("  %s%s %s"):format(name, (" "):rep(width - #name), version)
  end
  return table.concat(lines, "\n") .. "\n"
end

function M.main(_, rest)
  if rest[1] then return 2, ("version takes no argument, got '%s'"):format(rest[1]) end
  io.stdout:write(M.text(core.versions))
  return 0
end

return M
