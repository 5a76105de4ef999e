-- SPDX-License-Identifier: MIT
local syntax = require "neap.mock.syntax"

describe("the mock's flags", function()
  it("are read as written", function()
    assert.same({ law = "fixed", seconds = 0.12 }, syntax.latency "fixed:0.12")
    assert.same({ law = "uniform", min = 0, max = 2 }, syntax.latency "uniform:0,2")
    assert.same({ law = "lognormal", median = 0.1, sigma = 0.8 }, syntax.latency "lognormal:sigma=0.8,median=0.1")
    assert.same({ status = 503, probability = 0.02 }, syntax.error_rule "503:0.02")
    assert.same({ status = 429, probability = 1, retry_after = 2.5 }, syntax.error_rule "429:1,retry_after=2.5")
    assert.same({ rpm = 600, tpm = 90000 }, syntax.rate_limit "rpm=600,tpm=90000")
    assert.same({ rpm = 600, window = 1 }, syntax.rate_limit "rpm=600, window=1")
    assert.equal(0.001, syntax.probability "1e-3")
    assert.same({ law = "pareto", min = 0.1, alpha = 2 }, syntax.latency "pareto:0.1,2")
    assert.same({ law = "constant", seconds = 1 }, syntax.latency "constant:1")
    assert.same({ { at = 0, slots = 50 } }, syntax.capacity "50")
    assert.same({ { at = 0, slots = 50 }, { at = 30, slots = 0 }, { at = 60.5, slots = 100 } },
      syntax.capacity "50@t=30:0@t=60.5:100")
    assert.same({ over = "queue" }, syntax.over "queue")
    assert.same({ over = "reject" }, syntax.over "reject")
    assert.same({ over = "reject", retry_after = 0.5 }, syntax.over "reject,retry_after=0.5")
    assert.same({ knee = 50, slope = 2 }, syntax.brownout "knee=50,slope=2")
    assert.same({ latency = 3, error = 0.2, status = 529, from = 30, to = 60 },
      syntax.brownout "latency=3,error=0.2,status=529@t=30..60")
    assert.same({ latency = 3, from = 30 }, syntax.brownout "latency=3@t=30..")
  end)

  local wrong = {
    { "latency", "0.1", "'0.1' is no latency; write fixed:0.12" },
    { "latency", "fixed:fast", "seconds needs a number, got 'fast'" },
    { "latency", "fixed:", "fixed needs seconds" },
    { "latency", "fixed:-1", "seconds must be at least 0" },
    { "latency", "lognorml:median=1,sigma=1", "no latency law 'lognorml'; did you mean 'lognormal'?" },
    { "latency", "lognormal:median=0.1", "lognormal needs sigma" },
    { "latency", "lognormal:median=0.1,sgma=1", "'sgma=1' is not understood; did you mean 'sigma'?" },
    { "latency", "lognormal:median=0,sigma=1", "median must be above 0" },
    { "latency", "uniform:min=2,max=1", "max to be at least min" },
    { "latency", "fixed:1,2", "'2' is not understood" },
    { "error_rule", "503", "no STATUS:PROBABILITY" },
    { "error_rule", "503:2", "'2' is no probability from 0 to 1" },
    { "error_rule", "200:0.1", "status 200 is not an error" },
    { "error_rule", "503:0.1,retry=1", "'retry=1' is not understood" },
    { "probability", "nan", "no probability" },
    { "probability", "-0.1", "no probability" },
    { "probability", "1%", "no probability" },
    { "rate_limit", "600", "'600' is not understood" },
    { "rate_limit", "rpn=600", "did you mean 'rpm'?" },
    { "rate_limit", "window=5", "limits nothing" },
    { "rate_limit", "rpm=0", "rpm must be above 0" },
    { "latency", "pareto:min=0.1", "pareto needs alpha" },
    { "capacity", "many", "'many' is no capacity; write N, or N@t=30:N2" },
    { "capacity", "-1", "'-1' is no capacity" },
    { "capacity", "1.5", "'1.5' is no capacity" },
    { "capacity", "50@30:25", "'50@30:25' is no capacity" },
    { "capacity", "50@t=30", "'50@t=30' is no capacity" },
    { "capacity", "50@t=soon:25", "'50@t=soon:25' is no capacity" },
    { "capacity", "50@t=0:25", "the times of '50@t=0:25' must be above 0 and in order" },
    { "capacity", "50@t=30:25@t=20:9", "must be above 0 and in order" },
    { "capacity", "50 slots", "'50 slots' is no capacity" },
    { "capacity", "99999999999", "too many" },
    { "over", "drop", "'drop' is not understood; write reject, reject,retry_after=S or queue" },
    { "over", "queue,retry_after=1", "is not understood; write reject" },
    { "over", "reject,after=1", "'after=1' is not understood" },
    { "over", "reject,retry_after=-1", "retry_after must be at least 0" },
    { "brownout", "", "'' does nothing; write knee=50,slope=1, or" },
    { "brownout", "50", "'50' is not understood; write knee=50,slope=1, or" },
    { "brownout", "slope=1", "slope needs a knee" },
    { "brownout", "kne=1", "did you mean 'knee'?" },
    { "brownout", "knee=0", "knee must be above 0" },
    { "brownout", "error=2", "error must be at most 1" },
    { "brownout", "latency=2,status=503", "status needs error=P" },
    { "brownout", "latency=2@30..60", "'@30..60' is no window of time; write @t=30..60 or @t=30.." },
    { "brownout", "latency=2@t=60..30", "ends before it begins" },
    { "brownout", "latency=2@t=1..x", "is no window of time" },
    { "brownout", "latency=2@", "is no window of time" },
  }
  for _, case in ipairs(wrong) do
    it(("refuse %s %s with one clear sentence"):format(case[1], case[2]), function()
      local value, message = syntax[case[1]](case[2])
      assert.is_nil(value)
      assert.message(message).truthy(message:find(case[3], 1, true))
      assert.falsy(message:find "\n")
    end)
  end
end)
