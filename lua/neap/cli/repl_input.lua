--- Where the REPL's lines come from: a terminal with the line editor, a pipe, or
--- a file. Reading waits on the loop. While a line runs, nothing is read and the
--- terminal is in its normal mode, so that Ctrl-C is a signal.
local await = require "neap.await"
local core = require "neap.core"
local line_editor = require "neap.cli.line_editor"
local uv = require "neap.uv"

local M = {}

local HISTORY_LINES = 1000

--- What stdin and a terminal share: bytes arrive in a callback, a task waits.
local Input = {}
Input.__index = Input

--- Waits until more bytes have come, or the end.
function Input:wait_for_bytes()
  await(function(resume)
    self.stream:read_start(function(_, data)
      if data then self:take(data) else self.ended = true end
      self.stream:read_stop()
      resume()
    end)
  end)
end

function Input.report(_, text)
  io.stdout:flush()
  io.stderr:write(text, "\n")
end

function Input.print(_, text)
  io.stdout:write(text, "\n")
  io.stdout:flush()
end

function Input.banner() end

--- Runs `fn`, during which Ctrl-C calls `interrupt` where that can be told.
function Input.while_running(_, _, fn)
  fn()
  io.stdout:flush()
end

function Input:close()
  if self.stream and not self.stream:is_closing() then self.stream:close() end
end

--- Lines of a pipe.
local Pipe = setmetatable({}, { __index = Input })
Pipe.__index = Pipe

function Pipe:take(data)
  self.buffer = self.buffer .. data
end

function Pipe:read_line()
  while true do
    local at = self.buffer:find("\n", 1, true)
    if at then
      local line = self.buffer:sub(1, at - 1)
      self.buffer = self.buffer:sub(at + 1)
      return line
    end
    if self.ended then
      local line = self.buffer
      self.buffer = ""
      if line ~= "" then return line end
      return nil, "eof"
    end
    self:wait_for_bytes()
  end
end

--- Lines of a file: reading one never takes long.
local File = setmetatable({}, { __index = Input })
File.__index = File

function File.read_line()
  local line = io.read "*l"
  if line then return line end
  return nil, "eof"
end

--- A terminal.
local Terminal = setmetatable({}, { __index = Input })
Terminal.__index = Terminal

local NORMAL, RAW = 0, 1
local SWITCH_S = 0.5

function Terminal:take(data)
  -- Linux keeps a ctrl-d that was typed in normal mode, while a line ran, as a
  -- NUL byte, which is what the first read in raw mode then finds.
  if core.now() < self.raw_since + SWITCH_S then data = data:gsub("%z", "\4") end
  self.editor:feed(data)
end

local function read_history(path)
  local lines = {}
  local file = path and io.open(path, "r")
  if not file then return lines end
  for line in file:lines() do lines[#lines + 1] = line end
  file:close()
  if #lines <= HISTORY_LINES then return lines end
  return { unpack(lines, #lines - HISTORY_LINES + 1) }
end

function Terminal:remember(line)
  if not line:find "%S" or line == self.editor.history[#self.editor.history] then return end
  table.insert(self.editor.history, line)
  local file = self.history_path and io.open(self.history_path, "a")
  if file then
    file:write(line, "\n")
    file:close()
  end
end

function Terminal:edit()
  while true do
    local event, text = self.editor:next_event()
    if event then return event, text end
    if self.ended then return "eof" end
    self:wait_for_bytes()
  end
end

function Terminal:read_line(prompt)
  self.stream:set_mode(RAW)
  self.raw_since = core.now()
  self.editor:start(prompt)
  local ok, event, text = pcall(self.edit, self)
  self.editor.active = false
  self.stream:set_mode(NORMAL)
  if not ok then error(event, 0) end
  if event ~= "line" then return nil, event end
  self:remember(text)
  return text
end

--- Output beside a line that is being edited: takes it off the screen meanwhile.
function Terminal:beside(write)
  self.editor:hide()
  write()
  io.stdout:flush()
  self.editor:draw()
end

function Terminal:report(text)
  self:beside(function() io.stderr:write(text, "\n") end)
end

function Terminal:banner(text)
  self:print(text)
end

function Terminal:while_running(interrupt, fn)
  self.interrupt = interrupt
  fn()
  self.interrupt = nil
  io.stdout:flush()
end

function Terminal:close()
  self.signal:close()
  rawset(_G, "print", self.plain_print)
  Input.close(self)
end

--- Names that a table has when they are first used, as neap itself.
local function lazy_names(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and meta.lazy or {}
end

local function field(value, name)
  if type(value) ~= "table" then return nil end
  local there = rawget(value, name)
  if there == nil and lazy_names(value)[name] then return value[name] end
  return there
end

local function string_keys(value, prefix, found)
  if type(value) ~= "table" then return end
  local function add(key)
    if type(key) == "string" and key:sub(1, #prefix) == prefix and key:match "^[%a_][%w_]*$" then
      found[#found + 1] = key:sub(#prefix + 1)
    end
  end
  for key in next, value do add(key) end
  for key in next, lazy_names(value) do
    if rawget(value, key) == nil then add(key) end
  end
end

--- What the name before the cursor may go on with: fields of the table that it
--- leads to, without calling anything.
---@param before string
---@return string[]
function M.complete(before)
  local path, prefix = before:match "([%w_.]-)([%w_]*)$"
  local value = _G
  for name in path:gmatch "[%w_]+" do value = field(value, name) end
  local found = {}
  if prefix == "" and path == "" then return found end
  string_keys(value, prefix, found)
  table.sort(found)
  return found
end

local function open_terminal()
  local home = os.getenv "HOME"
  local history_path = os.getenv "NEAP_HISTORY" or (home and home .. "/.neap_history")
  if history_path == "" then history_path = nil end
  local terminal = setmetatable({
    interactive = true, stream = uv.new_tty(0, true), history_path = history_path, plain_print = print,
    signal = uv.new_signal(),
  }, Terminal)
  terminal.editor = line_editor.new {
    history = read_history(history_path),
    complete = M.complete,
    width = function() return terminal.stream:get_winsize() or 80 end,
    write = function(text)
      io.stdout:write(text)
      io.stdout:flush()
    end,
  }
  terminal.signal:start("sigint", function()
    if terminal.interrupt then terminal.interrupt() end
  end)
  terminal.signal:unref() -- must not look like something that wakes a task
  rawset(_G, "print", function(...)
    local values = { n = select("#", ...), ... }
    terminal:beside(function() terminal.plain_print(unpack(values, 1, values.n)) end)
  end)
  return terminal
end

--- Standard input, whatever it is.
function M.open()
  local kind = uv.guess_handle(0)
  if kind == "tty" then return open_terminal() end
  if kind == "pipe" or kind == "tcp" then
    local stream = kind == "pipe" and uv.new_pipe(false) or uv.new_tcp()
    stream:open(0)
    return setmetatable({ interactive = false, stream = stream, buffer = "" }, Pipe)
  end
  return setmetatable({ interactive = false }, File)
end

return M
