--- `neap help [command]`, made from the declarations of the commands.
local args = require "neap.cli.args"

local M = {
  name = "help",
  summary = "show what neap and its commands take",
  usage = "neap help [command]",
  options = {},
}

local PAGE_WIDTH = 100

--- Breaks a text into lines of at most `width` columns, at spaces.
local function wrap(text, width)
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and #line + 1 + #word > width then
      lines[#lines + 1] = line
      line = word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return lines
end

--- Two columns; a left side that is too wide gets a line of its own.
local function columns(rows, left_width)
  local lines = {}
  for _, row in ipairs(rows) do
    local left = "  " .. row[1]
    if #left > left_width - 2 then
      lines[#lines + 1] = left
      left = ""
    end
    for _, text in ipairs(wrap(row[2], PAGE_WIDTH - left_width)) do
      lines[#lines + 1] = (left .. (" "):rep(left_width - #left) .. text):gsub("%s+$", "")
      left = ""
    end
  end
  return table.concat(lines, "\n")
end

local METAVARS = { integer = "N", number = "X", string = "TEXT", list = "TEXT" }

local function option_row(option)
  local short = option.short and ("-%s, "):format(option.short) or "    "
  local long = "--" .. option.name
  if option.type == "boolean" then
    if option.default == true then long = "--no-" .. option.name end
  else
    local choices = option.choices and table.concat(option.choices, "|")
    long = long .. " " .. (option.metavar or choices or METAVARS[option.type])
  end
  local notes = {}
  if option.required then notes[#notes + 1] = "required" end
  local default = option.default
  if default ~= nil and type(default) ~= "boolean" and type(default) ~= "table" and default ~= "" then
    notes[#notes + 1] = "default " .. tostring(default)
  end
  local text = option.help or ""
  if #notes > 0 then text = ("%s (%s)"):format(text, table.concat(notes, ", ")) end
  return { short .. long, text }
end

--- The help page of one command.
---@param command neap.cli.Command
---@return string
function M.page(command)
  local usage = command.usage or ("neap " .. command.name)
  if type(usage) == "table" then usage = table.concat(usage, "\n       ") end
  local parts = { "usage: " .. usage, "", command.summary }
  if command.details then
    parts[#parts + 1] = ""
    parts[#parts + 1] = (command.details:gsub("%s+$", ""))
  end
  local rows = {}
  for _, option in ipairs(command.options or {}) do
    if not option.hidden then rows[#rows + 1] = option_row(option) end
  end
  if not command.own_help then rows[#rows + 1] = option_row(args.HELP) end
  if #rows > 0 then
    parts[#parts + 1] = ""
    parts[#parts + 1] = "options:"
    parts[#parts + 1] = columns(rows, 34)
  end
  return table.concat(parts, "\n") .. "\n"
end

--- The page that lists the commands.
---@param commands neap.cli.Command[]
---@return string
function M.overview(commands)
  local rows = {}
  for _, command in ipairs(commands) do
    rows[#rows + 1] = { command.name .. (command.operands and " " .. command.operands or ""), command.summary }
  end
  return table.concat({
    "neap: Lua scripts that make very many API calls",
    "",
    "usage: neap script.lua [args]        run a script",
    "       neap -e CODE [args]           run code; `neap` is a global there",
    "       neap command [options]",
    "",
    "commands:",
    columns(rows, 32),
    "",
    "neap help COMMAND shows what a command takes. Exit codes: 0 done, 1 script error or",
    "some requests failed, 2 usage, 130 interrupted.",
  }, "\n") .. "\n"
end

---@param _ table
---@param rest string[]
---@return integer? code
---@return string? message
function M.main(_, rest)
  local cli = require "neap.cli"
  if #rest == 0 then
    io.stdout:write(M.overview(cli.commands()))
    return 0
  end
  local command, message = cli.find(rest[1])
  if not command then return 2, message end
  io.stdout:write(M.page(command))
  return 0
end

return M
