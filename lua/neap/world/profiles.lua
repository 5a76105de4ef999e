--- Providers' published figures, each with the date that it is of and where it is
--- from. They age: a world may say otherwise in its own options, and the headers of
--- real answers know better. What nobody has published is not in here (the spread of
--- latencies, errors, lengths of answers): say it beside the profile.
local options = require "neap.options"

local M = {}

---@class neap.world.Figure
---@field key string the option
---@field value any
---@field date string of the source; "undated, read ..." where it has none
---@field source string

---@class neap.world.Profile
---@field about string
---@field date string the oldest of its figures'
---@field options table of an upstream
---@field figures neap.world.Figure[]

local OPENAI = "https://community.openai.com/t/1028595, the limits page of an account of usage tier 1, "
  .. "of the time of o1-preview"
local UNDATED = "undated, read 2026-11-23"
local SPEED = "Artificial Analysis' medians as quoted by https://induwara.lk/tools/ai-llm-speed-comparison"
local AZURE = "https://github.com/MicrosoftDocs/azure-ai-docs, articles/ai-services/openai/quotas-limits.md"
local ANTHROPIC = "https://platform.claude.com/docs/en/api/rate-limits as quoted by "
  .. "https://www.developersdigest.tech/rate-limits/anthropic"
local GROQ = "https://console.groq.com/docs/rate-limits as quoted by "
  .. "https://github.com/xyzs996/free-llm-api/discussions/3"

--- name -> about, headers, figures: { option, value, date, source }, an option of a
--- table as "rate_limit.rpm".
local list = {
  ["openai-tier1"] = { "OpenAI, usage tier 1, gpt-4o", "openai",
    { "rate_limit.rpm", 500, UNDATED, OPENAI },
    { "rate_limit.tpm", 30000, UNDATED, OPENAI },
    { "latency", 0.45, "2026-06-24", SPEED },
    { "tokens.per_second", 131, "2026-06-24", SPEED },
  },
  ["openai-tier1-mini"] = { "OpenAI, usage tier 1, gpt-4o-mini", "openai",
    { "rate_limit.rpm", 500, UNDATED, OPENAI },
    { "rate_limit.rpd", 10000, UNDATED, OPENAI },
    { "rate_limit.tpm", 200000, UNDATED, OPENAI },
  },
  ["openai-tier1-embeddings"] = { "OpenAI, usage tier 1, text-embedding-3", "openai",
    { "rate_limit.rpm", 3000, UNDATED, OPENAI },
    { "rate_limit.tpm", 1000000, UNDATED, OPENAI },
  },
  ["anthropic-start"] = { "Anthropic, Start tier, Claude Fable 5.x", "anthropic",
    { "rate_limit.rpm", 1000, "2026-10-17", ANTHROPIC },
    { "rate_limit.itpm", 500000, "2026-10-17", ANTHROPIC },
    { "rate_limit.otpm", 100000, "2026-10-17", ANTHROPIC },
  },
  ["anthropic-scale"] = { "Anthropic, Scale tier, Claude Fable 5.x", "anthropic",
    { "rate_limit.rpm", 4000, "2026-10-17", ANTHROPIC },
    { "rate_limit.itpm", 4000000, "2026-10-17", ANTHROPIC },
    { "rate_limit.otpm", 800000, "2026-10-17", ANTHROPIC },
  },
  ["azure-default"] = { "Azure OpenAI, global standard, default tier, gpt-4o", "azure",
    { "rate_limit.rpm", 2700, "2024-11-11", AZURE },
    { "rate_limit.tpm", 450000, "2024-11-11", AZURE },
  },
  ["azure-default-mini"] = { "Azure OpenAI, global standard, default tier, gpt-4o-mini", "azure",
    { "rate_limit.rpm", 12000, "2024-11-11", AZURE },
    { "rate_limit.tpm", 2000000, "2024-11-11", AZURE },
  },
  ["azure-enterprise"] = { "Azure OpenAI, global standard, enterprise agreement, gpt-4o", "azure",
    { "rate_limit.rpm", 180000, "2024-11-11", AZURE },
    { "rate_limit.tpm", 30000000, "2024-11-11", AZURE },
  },
  ["groq-free"] = { "Groq, free plan, llama-3.3-70b-versatile", "groq",
    { "rate_limit.rpm", 30, "2026-07-25", GROQ },
    { "rate_limit.rpd", 1000, "2026-07-25", GROQ },
    { "rate_limit.tpm", 12000, "2026-07-25", GROQ },
    { "rate_limit.tpd", 100000, "2026-07-25", GROQ },
  },
}

local function build(entry)
  local opts, figures = { api = "openai", rate_limit = { headers = entry[2] } }, {}
  local oldest
  for i = 3, #entry do
    local key, value, date, source = unpack(entry[i])
    local outer, inner = key:match "^([^.]+)%.(.+)$"
    if outer then
      opts[outer] = opts[outer] or {}
      opts[outer][inner] = value
    else
      opts[key] = value
    end
    figures[#figures + 1] = { key = key, value = value, date = date, source = source }
    if not oldest or date == UNDATED or oldest ~= UNDATED and date < oldest then oldest = date end
  end
  return { about = entry[1], date = oldest, options = opts, figures = figures }
end

--- The names of all profiles, sorted.
---@return string[]
function M.names()
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- A profile by name; nil and one sentence when there is none.
---@param name string
---@return neap.world.Profile? profile
---@return string? message
function M.find(name)
  local entry = list[name]
  if entry then return build(entry) end
  local hint = options.nearest(name, list)
  return nil, ("there is no profile '%s'%s"):format(name, hint and ("; did you mean '%s'?"):format(hint)
    or "; there are " .. table.concat(M.names(), ", "))
end

return M
