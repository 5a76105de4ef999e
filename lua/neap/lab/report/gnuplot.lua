--- Charts by gnuplot: files, and characters on the terminal. Building its script is
--- pure; `run` starts the program and waits.
local await = require "neap.await"

local M = {}

local COLUMNS, MOST_COLUMNS, LEAST_COLUMNS, LINES = 78, 200, 40, 18

--- Of the terminal, where there is one.
local function columns()
  local uv = require "neap.uv"
  if uv.guess_handle(1) ~= "tty" then return COLUMNS end
  local tty = uv.new_tty(1, false)
  local width = tty and tty:get_winsize()
  if tty then tty:close() end
  if not width or width <= 0 then return COLUMNS end
  return math.max(LEAST_COLUMNS, math.min(MOST_COLUMNS, width - 1))
end

local function quote(text)
  -- In single quotes a quote is doubled; nothing else is special, but for markup.
  return "'" .. text:gsub("'", "''") .. "'"
end

--- Several lines: between double quotes, where \\n is one.
local function double_quote(lines)
  local escaped = {}
  for i, line in ipairs(lines) do escaped[i] = line:gsub('[\\"]', "\\%0") end
  return '"' .. table.concat(escaped, "\\n") .. '"'
end

local function block(name, rows)
  return ("$%s << EOD\n%s\nEOD"):format(name, table.concat(rows, "\n"))
end

local function number(value) return ("%.9g"):format(value) end

--- Data of a series: x, y, low, high.
local function rows_of(series)
  local rows = {}
  for i, point in ipairs(series.points) do
    rows[i] = table.concat({ number(point.x), number(point.y), number(point.low or point.y),
      number(point.high or point.y) }, " ")
  end
  return rows
end

local function plot_rows(chart, lines)
  local labels = {}
  for i, name in ipairs(chart.names) do labels[i] = ("%s %d"):format(quote(name), i) end
  lines[#lines + 1] = ("set ytics (%s)"):format(table.concat(labels, ", "))
  lines[#lines + 1] = ("set yrange [%g:0.5]"):format(#chart.names + 0.5)
  lines[#lines + 1] = "set nologscale x\nset xlabel ''\nset key off"
  lines[#lines + 1] = block("s1", rows_of(chart.series[1]))
  lines[#lines + 1] = "plot $s1 using 2:1:3:4 with xerrorbars pt 7 notitle"
end

local function plot_over(chart, lines, terminal)
  lines[#lines + 1] = "set ytics autofreq\nset yrange [*:*]\nset xrange [*:*] noextend"
  lines[#lines + 1] = "set offsets graph 0.02, graph 0.02, graph 0, graph 0"
  lines[#lines + 1] = #chart.series > 1 and "set key outside bottom center horizontal" or "set key off"
  lines[#lines + 1] = ("set xlabel %s\nset %slogscale x"):format(quote(chart.over), chart.log and "" or "no")
  local plots = {}
  for i, series in ipairs(chart.series) do
    lines[#lines + 1] = block("s" .. i, rows_of(series))
    -- In characters the intervals would hide the points.
    local style = terminal == "dumb" and "1:2 with linespoints" or "1:2:3:4 with yerrorlines"
    plots[i] = ("$s%d using %s pt %d title %s"):format(i, style, i, quote(series.name))
  end
  lines[#lines + 1] = "plot " .. table.concat(plots, ", ")
end

--- gnuplot's script for charts. `terminal` is "dumb", "png" or "svg".
---@param charts neap.lab.Chart[]
---@param terminal string
---@param path? string of the file
---@param title? string[] lines above the charts of a file
---@param width? integer columns, of "dumb"
---@return string
function M.script(charts, terminal, path, title, width)
  local lines = {}
  if terminal == "dumb" then
    lines[1] = ("set terminal dumb size %d,%d noenhanced"):format(width or COLUMNS, LINES)
  else
    local height = 320 * math.max(1, #charts)
    lines[1] = ("set terminal %s size 760,%d noenhanced"):format(terminal == "png" and "pngcairo" or "svg", height)
    local heading = title and (" title %s font ',9'"):format(double_quote(title)) or ""
    lines[2] = ("set output %s\nset multiplot layout %d,1%s"):format(quote(path), math.max(1, #charts), heading)
  end
  for _, chart in ipairs(charts) do
    lines[#lines + 1] = "set title " .. quote(chart.title)
    local points = 0
    for _, series in ipairs(chart.series) do points = points + #series.points end
    if points > 0 then (chart.names and plot_rows or plot_over)(chart, lines, terminal) end
  end
  if terminal ~= "dumb" then lines[#lines + 1] = "unset multiplot" end
  return table.concat(lines, "\n") .. "\n"
end

local MISSING = "gnuplot is not installed (Debian: apt-get install gnuplot-nox); everything else works without it"

--- Whether the program is there.
---@return boolean? ok
---@return string? message one line
function M.check()
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    if require("neap.uv").fs_access(folder .. "/gnuplot", "X") then return true end
  end
  return nil, MISSING
end

--- Draws charts on the terminal, in its width. Waits.
---@param charts neap.lab.Chart[]
---@return string? text
---@return string? message one line
function M.draw(charts)
  return M.run(M.script(charts, "dumb", nil, nil, columns()))
end

--- Runs a script. Waits.
---@param script string
---@return string? out what it printed
---@return string? message one line
function M.run(script)
  local uv = require "neap.uv"
  local input, out_pipe, err_pipe = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local out, err, code, process = {}, {}, nil, nil
  await(function(resume)
    local left = 3
    local function one_done()
      left = left - 1
      if left == 0 then resume() end
    end
    process = uv.spawn("gnuplot", { args = { "-" }, stdio = { input, out_pipe, err_pipe } }, function(exit_code)
      code = exit_code
      process:close()
      one_done()
    end)
    if not process then
      for _, pipe in ipairs { input, out_pipe, err_pipe } do pipe:close() end
      return resume()
    end
    for pipe, into in pairs { [out_pipe] = out, [err_pipe] = err } do
      pipe:read_start(function(_, data)
        if data then
          into[#into + 1] = data
        else
          pipe:close()
          one_done()
        end
      end)
    end
    input:write(script, function() input:close() end)
  end)
  if not process then return nil, MISSING end
  if code ~= 0 then return nil, "gnuplot failed: " .. (table.concat(err):match "[^\n]+" or "exit code " .. code) end
  return table.concat(out)
end

return M
