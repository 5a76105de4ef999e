local args = require "neap.cli.args"

local SPEC = {
  { name = "concurrency", short = "c", type = "integer", default = 64, min = 1, max = 100, metavar = "N" },
  { name = "rate", type = "number", above = 0 },
  { name = "input", short = "i", type = "string", metavar = "FILE" },
  { name = "header", short = "H", type = "list" },
  { name = "max-attempts", type = "integer", default = 5 },
  { name = "force", short = "f", type = "boolean" },
  { name = "verbose", short = "v", type = "boolean" },
  { name = "progress", type = "boolean", default = true },
  { name = "mode", type = "string", choices = { "fast", "slow" } },
  { name = "law", type = "string", parse = function(text)
    if text == "bad" then return nil, "a law is good" end
    return { text = text }
  end },
}

local function parse(...)
  return args.parse(SPEC, { ... })
end

--- The message of a command line that must be refused.
local function refusal(...)
  local opts, message = parse(...)
  assert.is_nil(opts)
  return message
end

describe("args.parse", function()
  it("takes a long option's value as the next argument or behind =", function()
    assert.equal(5, parse("--concurrency", "5").concurrency)
    assert.equal(5, parse("--concurrency=5").concurrency)
    assert.equal("a=b", parse("--input=a=b").input)
    assert.equal("", parse("--input=").input)
  end)

  it("takes a short option's value as the next argument or attached", function()
    assert.equal(5, parse("-c", "5").concurrency)
    assert.equal(5, parse("-c5").concurrency)
  end)

  it("takes several short booleans in one argument, a value option last", function()
    local opts = parse("-fvc7")
    assert.is_true(opts.force)
    assert.is_true(opts.verbose)
    assert.equal(7, opts.concurrency)
  end)

  it("fills in defaults: the declared one, false, an empty list", function()
    local opts, rest = parse()
    assert.same({ concurrency = 64, max_attempts = 5, force = false, verbose = false, progress = true, header = {} },
      opts)
    assert.same({}, rest)
  end)

  it("keeps a default list apart from the declaration", function()
    local spec = { { name = "x", type = "list", default = { "a" } } }
    table.insert(args.parse(spec, {}).x, "b")
    assert.same({ "a" }, args.parse(spec, {}).x)
    assert.same({ "c" }, args.parse(spec, { "--x", "c" }).x)
  end)

  it("turns dashes in a name into underscores", function()
    assert.equal(9, parse("--max-attempts", "9").max_attempts)
  end)

  it("collects every occurrence of a list and keeps the last of a single option", function()
    assert.same({ "a", "b" }, parse("-H", "a", "--header=b").header)
    assert.equal(2, parse("-c1", "-c2").concurrency)
  end)

  it("switches a boolean that is on by default off with --no-", function()
    assert.is_false(parse("--no-progress").progress)
    assert.equal("unknown option '--no-force'", (refusal("--no-force"):gsub(";.*", "")))
  end)

  it("leaves other arguments, also between options, and everything after --", function()
    local opts, rest = parse("a", "-f", "b", "--", "-v", "--force")
    assert.is_true(opts.force)
    assert.is_false(opts.verbose)
    assert.same({ "a", "b", "-v", "--force" }, rest)
  end)

  it("stops at the first other argument when told to", function()
    local opts, rest = args.parse(SPEC, { "-f", "script.lua", "-v" }, { stop_at_positional = true })
    assert.is_true(opts.force)
    assert.is_false(opts.verbose)
    assert.same({ "script.lua", "-v" }, rest)
  end)

  it("takes a lone dash as an argument and as a value", function()
    assert.same({ "-" }, select(2, parse("-")))
    assert.equal("-", parse("-i", "-").input)
  end)

  it("takes a negative number as a value", function()
    assert.equal(-3, parse("--max-attempts", "-3").max_attempts)
  end)

  it("names an unknown option with the nearest known one", function()
    assert.equal("unknown option '--concurency'; did you mean '--concurrency'?", refusal("--concurency", "5"))
    assert.equal("unknown option '--froce'; did you mean '--force'?", refusal("--froce"))
    assert.equal("unknown option '--no-progess'; did you mean '--no-progress'?", refusal("--no-progess"))
    assert.equal("unknown option '-force'; did you mean '--force'?", refusal("-force"))
  end)

  it("names an unknown option without a hint when none is near", function()
    assert.equal("unknown option '--xyzzy'", refusal("--xyzzy"))
    assert.equal("unknown option '-x'", refusal("-x"))
  end)

  it("says which option lacks its value, also before a known option", function()
    assert.equal("option '--input' needs a value (FILE)", refusal("--input"))
    assert.equal("option '-i' needs a value (FILE)", refusal("-i", "-f"))
    assert.equal("option '-i' needs a value (FILE)", refusal("-i", "--"))
    assert.equal("option '-c' needs a value (N)", refusal("-fc"))
  end)

  it("refuses a value for a boolean", function()
    assert.equal("option '--force' takes no value", refusal("--force=yes"))
    assert.equal("option '--no-progress' takes no value", refusal("--no-progress=1"))
  end)

  it("refuses what is not a whole number", function()
    for _, text in ipairs { "many", "1.5", "0x10", "inf", "nan", "", "1e", "--", "1e30" } do
      assert.matches("^option '%-%-max%-attempts' needs a whole number, got '", refusal("--max-attempts=" .. text))
    end
    assert.equal(1000, parse("--max-attempts=1e3").max_attempts)
  end)

  it("refuses what is not a number", function()
    for _, text in ipairs { "x", "0x1", "inf", "nan", "1e999", "." } do
      assert.matches("^option '%-%-rate' needs a number, got '", refusal("--rate=" .. text))
    end
    assert.equal(0.5, parse("--rate", ".5").rate)
    assert.equal(1500, parse("--rate", "1.5e3").rate)
  end)

  it("refuses a number out of range and names the bound", function()
    assert.equal("option '--concurrency' must be at least 1, got 0", refusal("--concurrency", "0"))
    assert.equal("option '-c' must be at most 100, got 101", refusal("-c", "101"))
    assert.equal("option '--rate' must be above 0, got 0", refusal("--rate", "0"))
  end)

  it("refuses a choice that there is not", function()
    assert.equal("slow", parse("--mode", "slow").mode)
    assert.equal("option '--mode' must be one of fast, slow, got 'fats'; did you mean 'fast'?",
      refusal("--mode", "fats"))
  end)

  it("lets an option turn its text into a value, or refuse it", function()
    assert.same({ text = "ok" }, parse("--law", "ok").law)
    assert.equal("option '--law': a law is good", refusal("--law", "bad"))
  end)

  it("requires what is required", function()
    local spec = { { name = "output", short = "o", type = "string", required = true } }
    local opts, message = args.parse(spec, {})
    assert.is_nil(opts)
    assert.equal("option '--output' is required", message)
    assert.equal("x", args.parse(spec, { "-ox" }).output)
  end)

  it("knows --help and -h, and then checks nothing more", function()
    local spec = { { name = "output", type = "string", required = true } }
    assert.is_true(args.parse(spec, { "--help", "--nonsense" }).help)
    assert.is_true(args.parse(spec, { "-h" }).help)
  end)
end)
