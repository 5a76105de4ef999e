local child = require "spec.support.child"

describe("the command line #real", function()
  local folders = {}

  after_each(function()
    for _, folder in ipairs(folders) do child.remove(folder) end
    folders = {}
  end)

  --- A script file that is gone after the test.
  local function script(text, name)
    local path, folder = child.file(name or "script.lua", text)
    folders[#folders + 1] = folder
    return path, folder
  end

  --- A run that must be refused with one line on stderr.
  local function refused(code, ...)
    local result = child.run({ ... })
    assert.equal(code, result.code)
    assert.equal("", result.out)
    assert.matches("^neap: [^\n]+\n$", result.err)
    return result.err
  end

  describe("run", function()
    it("runs a script, with and without the word run", function()
      local path = script "print('hello')"
      for _, argv in ipairs { { path }, { "run", path } } do
        local result = child.run(argv)
        assert.same({ 0, "hello\n", "" }, { result.code, result.out, result.err })
      end
    end)

    it("passes arguments as ... and in arg, options included", function()
      local path = script "print(select('#', ...), ..., arg[0], arg[1], arg[2], #arg) print(arg[-1])"
      local result = child.run { path, "-x", "--help" }
      local exe = require("neap.core").host.exe_path()
      assert.equal(("2\t-x\t%s\t-x\t--help\t2\n%s\n"):format(path, exe), result.out)
    end)

    it("takes a script with a #! line, also as a program", function()
      local path, folder = script("#!/usr/bin/env neap\nprint('ran', ...)", "tool")
      assert.equal("ran\ta\n", child.run({ path, "a" }).out)
      local uv = require "neap.uv"
      assert(uv.fs_chmod(path, 448)) -- rwx------
      assert(uv.fs_symlink(require("neap.core").host.exe_path(), folder .. "/neap"))
      local result = child.start_program(path, { "b" }, { env = { PATH = folder .. ":" .. os.getenv "PATH" } }):wait()
      assert.same({ 0, "ran\tb\n", "" }, { result.code, result.out, result.err })
    end)

    it("reads a script from standard input", function()
      local result = child.run({ "-", "a" }, { stdin = "#!/usr/bin/env neap\nprint('in', ...)" })
      assert.same({ 0, "in\ta\n" }, { result.code, result.out })
    end)

    it("waits for every task and does not make neap a global", function()
      local path = script [[
        assert(neap == nil)
        local neap = require "neap"
        neap.spawn(function() neap.sleep(0.02) print "background" end)
        print "main"]]
      assert.equal("main\nbackground\n", child.run({ path }).out)
    end)

    it("ignores what a script returns", function()
      assert.equal(0, child.run({ script "return 3" }).code)
    end)

    it("refuses a file that is not there, or a folder, as usage", function()
      assert.equal("neap: cannot open 'no-such.lua': No such file or directory\n", refused(2, "no-such.lua"))
      assert.equal("neap: cannot open 'no-such.lua': No such file or directory\n", refused(2, "run", "no-such.lua"))
      local _, folder = script ""
      assert.matches("^neap: cannot open '.*': Is a directory\n$", refused(2, folder))
      assert.matches("^neap: run needs a script", refused(2, "run"))
    end)

    it("tells a syntax error with file and line, as a script error", function()
      local path = script "local x = 1\nx = = 2\n"
      local message = refused(1, path)
      assert.is_truthy(message:find(path:match "[^/]+$" .. ":2: ", 1, true), message)
      assert.is_truthy(message:find("near '='", 1, true), message)
    end)

    it("tells an uncaught error with kind and a traceback that begins in the script", function()
      local path = script "local function f() error 'boom' end\nlocal function g() f() end\ng()\n"
      local result = child.run { path }
      assert.equal(1, result.code)
      assert.matches("^neap: .*script.lua:1: boom %(kind: internal%)\n", result.err)
      assert.matches("script.lua:2: in function 'g'", result.err)
      assert.matches("script.lua:3: in main chunk", result.err)
      assert.is_nil(result.err:find("neap/cli", 1, true))
    end)

    it("tells the uncaught error of a task with where it was spawned", function()
      local path = script [[
local neap = require "neap"
neap.spawn(function()
  neap.sleep(0.01)
  error(neap.error.new { kind = "timeout", message = "too slow" })
end)
neap.sleep(10)]]
      local result = child.run { path }
      assert.equal(1, result.code)
      assert.matches("^neap: too slow %(kind: timeout%)\n", result.err)
      assert.matches("spawned at [^\n]*script.lua:2", result.err)
    end)

    it("ends with 130 when it is interrupted, after clean-up", function()
      local path = script [[
        local neap = require "neap"
        io.stdout:setvbuf "no"
        print "ready"
        pcall(neap.sleep, 60)
        print "cleaned up"
        neap.sleep(60)]]
      local process = child.start { path }
      process:wait_for "ready"
      process:kill "sigint"
      assert.same({ 130, "ready\ncleaned up\n" }, { process:wait().code, process.out })
    end)
  end)

  describe("-e", function()
    it("runs code where neap is a global, with arguments", function()
      local result = child.run { "-e", "neap.sleep(0.001) print(...)", "a", "-b" }
      assert.same({ 0, "a\t-b\n", "" }, { result.code, result.out, result.err })
    end)

    it("runs several pieces in order", function()
      assert.equal("1\n", child.run({ "-e", "x = 1", "-eprint(x)" }).out)
    end)

    it("does nothing for empty code", function()
      assert.same({ 0, "" }, { child.run({ "-e", "" }).code, child.run({ "-e", "" }).out })
    end)

    it("refuses missing code as usage and bad code as a script error", function()
      assert.matches("^neap: %-e needs code", refused(2, "-e"))
      assert.equal("neap: (command line):1: unexpected symbol near '<eof>'\n", refused(1, "-e", "x ="))
    end)
  end)

  it("runs a script from a pipe", function()
    local result = child.start_program("/bin/sh", {
      "-c", [[echo "print('piped', ...)" | "$NEAP" /dev/stdin x]],
    }, { env = { NEAP = require "neap".host.exe_path() } }):wait()
    assert.same({ 0, "piped\tx\n" }, { result.code, result.out })
  end)

  describe("sim", function()
    it("runs an hour in no time and ends with a summary on stderr", function()
      local path = script "local neap = require 'neap' neap.sleep(3600) print(neap.now() == 3600, ...)"
      local result = child.run { "sim", path, "a" }
      assert.same({ 0, "true\ta\n" }, { result.code, result.out })
      assert.matches("^sim: 1 h 0 min virtual in [^\n]+ real %([^\n]+x%), %d+ switches, 0 tasks, seed 1\n"
        .. "sim: no requests\nsim: simulated: time only\nsim: read from disk: the script alone\n$", result.err)
    end)

    it("waits for background tasks before it sums up", function()
      local path = script "local neap = require 'neap' neap.spawn(function() neap.sleep(90) print 'late' end)"
      local result = child.run { "sim", path }
      assert.equal("late\n", result.out)
      assert.matches("^sim: 1 min 30 s virtual", result.err)
    end)

    it("draws the same for the same seed and something else for another", function()
      local path = script "print(require('neap.core').random(), math.random())"
      local function draw(seed) return child.run({ "sim", "--seed", seed, path }).out end
      local seven = draw "7"
      assert.equal(seven, draw "7")
      assert.are_not.equal(seven, draw "8")
    end)

    it("fails as a script does", function()
      assert.equal(1, child.run({ "sim", script "error 'boom'" }).code)
      assert.matches("^neap: cannot open 'none.lua'", refused(2, "sim", "none.lua"))
      assert.equal("neap: unknown option '--sede'; did you mean '--seed'?\n", refused(2, "sim", "--sede", "3"))
      assert.equal("neap: option '--seed' must be at least 0, got -1\n",
        (refused(2, "sim", "--seed", "-1", "x.lua"):gsub(" %(try.*%)", "")))
    end)
  end)

  describe("usage", function()
    it("refuses an unknown command with the nearest one", function()
      assert.equal("neap: unknown command 'bacth'; did you mean 'batch'?\n", refused(2, "bacth"))
      assert.equal("neap: unknown command 'frobnicate' (try 'neap help')\n", refused(2, "frobnicate"))
    end)

    it("refuses an unknown option before any command", function()
      assert.equal("neap: unknown option '--verison'; did you mean '--version'?\n", refused(2, "--verison"))
    end)

    it("shows every command in the overview, also without arguments", function()
      for _, argv in ipairs { { "help" }, { "--help" }, { "-h" }, {} } do
        local result = child.run(argv)
        assert.same({ 0, "" }, { result.code, result.err })
        for _, name in ipairs { "run", "sim", "repl", "batch", "mock", "test", "version", "help" } do
          assert.matches("\n  " .. name .. " ", result.out)
        end
      end
    end)

    it("shows the same page for help COMMAND and COMMAND --help", function()
      for _, name in ipairs { "run", "sim", "repl", "batch", "mock", "test", "version", "help" } do
        local page = child.run { "help", name }
        assert.equal(0, page.code)
        assert.matches("^usage: neap " .. name, page.out)
        assert.equal(page.out, child.run({ name, "--help" }).out)
      end
    end)

    it("describes every option with its default", function()
      local page = child.run({ "help", "sim" }).out
      assert.matches("\n  %-s, %-%-seed N +seed of all randomness %(default 1%)\n", page)
    end)

    it("fits its pages into 100 columns", function()
      for _, name in ipairs { "", "run", "sim", "repl", "batch", "mock", "test", "version", "help" } do
        local page = child.run({ "help", name ~= "" and name or nil }).out
        for line in page:gmatch "[^\n]+" do assert.is_true(#line <= 100, line) end
      end
    end)

    it("refuses help for what is no command", function()
      assert.equal("neap: unknown command 'bathc'; did you mean 'batch'?\n", refused(2, "help", "bathc"))
    end)
  end)

  describe("version", function()
    it("names neap and its libraries", function()
      for _, argv in ipairs { { "version" }, { "-v" }, { "--version" } } do
        local result = child.run(argv)
        assert.same({ 0, "" }, { result.code, result.err })
        assert.matches("^neap %d+%.%d+%.%d+", result.out)
        for _, library in ipairs { "LuaJIT", "libuv", "libcurl", "cjson", "luv", "libmicrohttpd" } do
          assert.is_truthy(result.out:lower():find(library:lower(), 1, true), library)
        end
      end
    end)

    it("takes no argument", function()
      assert.matches("^neap: version takes no argument", refused(2, "version", "x"))
    end)
  end)
end)

describe("neap.cli.sim.duration", function()
  local duration = require("neap.cli.sim").duration

  it("names the unit that suits", function()
    assert.equal("950 us", duration(0.00095))
    assert.equal("12 ms", duration(0.012))
    assert.equal("3.5 s", duration(3.5))
    assert.equal("2 min 5 s", duration(125))
    assert.equal("1 h 2 min", duration(3720))
  end)
end)
