local child = require "spec.support.child"
local repl = require "neap.cli.repl"

describe("repl.compile", function()
  it("takes an expression, a statement and =expression", function()
    assert.equal(2, repl.compile("1 + 1")())
    assert.equal(3, repl.compile("= 1 + 2")())
    assert.is_function(repl.compile "local x = 1")
  end)

  it("knows a chunk that more lines can complete", function()
    for _, text in ipairs { "for i = 1, 3 do", "f(", "x = {", "1 +", "[[long", "if x then y()", "--[[ comment" } do
      assert.same({ nil, "incomplete" }, { repl.compile(text) })
    end
  end)

  it("tells a syntax error", function()
    local chunk, message = repl.compile "x = = 1"
    assert.is_nil(chunk)
    assert.matches("^repl:1: unexpected symbol near '='$", message)
    assert.are_not.equal("incomplete", (select(2, repl.compile 'x = "abc')))
  end)
end)

describe("completion", function()
  local input = require "neap.cli.repl_input"

  it("knows fields, and neap's names before they are first used", function()
    rawset(_G, "neap", require "neap")
    assert.same({ "ed_pairs" }, input.complete "x = neap.sort")
    assert.same({ "ode" }, input.complete "neap.json.enc")
    assert.same({ "b" }, input.complete "string.su")
    assert.same({}, input.complete "neap.nothing.x")
    rawset(_G, "neap", nil)
  end)
end)

describe("neap repl #real", function()
  --- Runs lines from a pipe.
  local function run(lines)
    return child.run({ "repl" }, { stdin = table.concat(lines, "\n") .. "\n" })
  end

  it("prints the values of expressions, without prompts, and keeps the first in _", function()
    local result = run { "1 + 1", "'a', nil, { x = 1 }", "x = 5", "= x", "_ * 2", "nil" }
    assert.same({ 0, '2\n"a", nil, { x = 1 }\n5\n10\nnil\n', "" }, { result.code, result.out, result.err })
  end)

  it("lets every line wait and has neap as a global", function()
    local result = run { "neap.sleep(0.01)", "neap.timeout(0.01, neap.sleep, 5)" }
    assert.equal("nil, timeout: timed out after 0.01 s\n", result.out)
  end)

  it("reads a chunk over several lines", function()
    local result = run { "for i = 1, 2 do", "print(i)", "end", "1 +", "2" }
    assert.equal("1\n2\n3\n", result.out)
  end)

  it("takes a last line without a line end", function()
    assert.equal("7\n", child.run({ "repl" }, { stdin = "3 + 4" }).out)
  end)

  it("takes its lines from a file too", function()
    local path, folder = child.file("input", "neap.sleep(0.001)\n40 + 2\n")
    local command = ("exec '%s' repl < '%s'"):format(require("neap.core").host.exe_path(), path)
    local result = child.start_program("/bin/sh", { "-c", command }):wait()
    child.remove(folder)
    assert.same({ 0, "42\n", "" }, { result.code, result.out, result.err })
  end)

  it("goes on after errors, tells them on stderr, and exits with 1", function()
    local result = run { "error('boom')", "x = = 1", "error { code = 7 }", "local t = nil; t.x = 1", "'still here'" }
    assert.equal(1, result.code)
    assert.equal('"still here"\n', result.out)
    assert.matches("^boom\n", result.err)
    assert.matches("repl:1: unexpected symbol near '='\n", result.err)
    assert.matches("{ code = 7 }\n", result.err)
    assert.matches("attempt to index local 't'", result.err)
    assert.is_nil(result.err:find("neap/cli", 1, true))
  end)

  it("tells when the input ends in the middle of a chunk", function()
    local result = run { "for i = 1, 2 do" }
    assert.equal(1, result.code)
    assert.matches("'end' expected near '<eof>'", result.err)
  end)

  it("lets background tasks go on while it waits for input", function()
    local process = child.start({ "repl" }, { stdin = true })
    process:write "neap.spawn(function() neap.sleep(0.02) print('background') io.stdout:flush() end) and 'spawned'\n"
    process:wait_for '"spawned"'
    process:wait_for "background"
    process:write "'more'\n"
    process:wait_for '"more"'
    process:close_stdin()
    assert.equal(0, process:wait().code)
  end)

  it("waits for background tasks at the end of piped input", function()
    assert.equal("late\n", run({ "_ = neap.spawn(function() neap.sleep(0.05) print 'late' end) " }).out)
  end)

  it("tells a background task's error and goes on", function()
    local result = run { "t = neap.spawn(function() error 'behind' end)", "neap.sleep(0.01)", "'on'" }
    assert.equal('"on"\n', result.out)
    assert.matches("^task: .*repl:1: behind\n", result.err)
  end)

  it("exits with 1 when a background task failed, also one that outlived the input", function()
    local early = run { "neap.spawn(error, 'early') and 0", "neap.sleep(0.01)" }
    assert.same({ 1, "0\n" }, { early.code, early.out })
    local late = run { "neap.spawn(function() neap.sleep(0.05) error 'late' end) and 0" }
    assert.equal(1, late.code)
    assert.matches("^task: repl:1: late\n", late.err)
  end)

  it("ends a line that deadlocks and goes on", function()
    local result = run { "local t t = neap.spawn(function() t2:await() end) t2 = neap.spawn(function() t:await() end) "
      .. "t:await()", "'on'" }
    assert.matches('"on"\n$', result.out)
    assert.matches("deadlock", result.err)
  end)

  it("takes no argument", function()
    local result = child.run { "repl", "x" }
    assert.equal(2, result.code)
    assert.matches("^neap: repl takes no argument", result.err)
  end)

  describe("on a terminal", function()
    local folder, process

    --- A repl on a pseudo-terminal, which `script` makes. `exec`, because a shell
    --- that stays in between would end of the ctrl-c itself.
    before_each(function()
      local history
      history, folder = child.file("history", "'from history'\n")
      process = child.start_program("script",
        { "-qfec", "exec " .. require("neap.core").host.exe_path() .. " repl", "/dev/null" },
        { stdin = true, env = { NEAP_HISTORY = history, TERM = "xterm" } })
      process:wait_for "> "
    end)

    after_each(function()
      process:close_stdin()
      process:wait()
      child.remove(folder)
    end)

    local function history()
      local file = assert(io.open(folder .. "/history"))
      local text = file:read "*a"
      file:close()
      return text
    end

    it("shows a prompt, edits the line, prints the result, leaves at ctrl-d", function()
      process:write "1 + 12\127\r"
      process:wait_for "\n2\r\n"
      process:write "\4"
      assert.equal(0, process:wait().code)
      assert.equal("'from history'\n1 + 1\n", history())
    end)

    it("recalls lines of the last session", function()
      process:write "\27[A\r"
      process:wait_for '\n"from history"\r\n'
      process:write "\4"
      process:wait()
      assert.equal("'from history'\n", history())
    end)

    it("cancels the running line at ctrl-c and goes on", function()
      process:write "print('begun') neap.sleep(1000)\r"
      process:wait_for "\nbegun\r\n"
      process:write "\3"
      process:wait_for "cancelled"
      process:write "'alive'\r"
      process:wait_for '\n"alive"\r\n'
      process:write "\4"
      assert.equal(0, process:wait().code)
    end)

    it("takes what was typed while a line ran, ctrl-d included", function()
      process:write "print('begun') neap.sleep(0.2)\r"
      process:wait_for "\nbegun\r\n"
      process:write "'ahead'\r\4"
      process:wait_for '\n"ahead"\r\n'
      assert.equal(0, process:wait().code)
    end)

    it("drops the line being typed at ctrl-c", function()
      process:write "1 +\r"
      process:wait_for ">> "
      process:write "nonsense\3"
      process:write "'fresh'\r"
      process:wait_for '\n"fresh"\r\n'
      process:write "\4"
      assert.equal(0, process:wait().code)
    end)

    it("leaves at ctrl-d although tasks run in the background", function()
      process:write "neap.spawn(neap.sleep, 1000)\r"
      process:wait_for "\ntask "
      process:write "\4"
      assert.equal(0, process:wait().code)
    end)

    it("keeps the line being typed when a task prints", function()
      process:write "neap.spawn(function() neap.sleep(0.05) print('note') end) and 0\r"
      process:wait_for "\n0\r\n"
      process:write "'ke"
      process:wait_for "note\r\n"
      process:write "pt'\r"
      process:wait_for '\n"kept"\r\n'
      process:write "\4"
      assert.equal(0, process:wait().code)
    end)
  end)
end)
