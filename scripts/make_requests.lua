#!/usr/bin/env neap
-- Writes the bundled sample, scripts/data/requests.jsonl: 1,000 requests in the
-- OpenAI batch file format, small tasks of seven kinds. The same every time.
--
--   $ neap scripts/make_requests.lua > scripts/data/requests.jsonl
--
-- (The chat requests name the model "demo"; `neap mock` takes any.)

local COUNT = 1000

-- A generator of its own: the file must not change with anybody else's.
local state = 20240229
local function random(n)
  state = (state * 16807) % 2147483647
  return state % n + 1
end

local function pick(list) return list[random(#list)] end

local things = { "kettle", "bicycle lamp", "tent", "rain jacket", "desk chair", "headphones", "coffee grinder",
  "garden hose", "travel mug", "keyboard", "blender", "hiking boots", "alarm clock", "sleeping bag", "bread knife" }
local praise = { "works exactly as described", "arrived two days early", "is quieter than the old one",
  "survived a week of rain", "feels solid", "is easy to clean", "was worth every cent" }
local blame = { "stopped working after a fortnight", "came with a cracked lid", "is louder than a lorry",
  "smells of glue", "does not fit the box it came in", "leaks at the hinge", "lost its colour in the first wash" }
local people = { "Amara", "Bjorn", "Chloé", "Dimitri", "Esra", "Farid", "Grace", "Hiroshi", "Ines", "Jakub", "Keiko",
  "Liam", "Mónica", "Noor", "Oskar", "Priya", "Quentin", "Rosa", "Søren", "Tomasz" }
local cities = { "Lisbon", "Nairobi", "Osaka", "Gdańsk", "Valparaíso", "Tromsø", "Pune", "Halifax", "Tallinn", "Perth" }
local goods = { "oranges", "notebooks", "tide tables", "lanterns", "postcards", "sea shells", "batteries", "ropes" }
local sentences = { "The ferry leaves at low tide.", "Please keep the gate closed.", "Nobody had told the cook.",
  "We measured the harbour twice.", "The lamp on the pier is broken again.", "Her answer came by return of post.",
  "It rained on all seven days.", "The moon was late, and so were we." }
local languages = { "German", "Portuguese", "Japanese", "Polish", "Swahili", "Chinese", "Norwegian" }
local topics = { "why neap tides are weak", "how a lighthouse lens works", "what a semaphore was before computers",
  "why sourdough rises", "how to read a nautical chart", "what makes a good queue", "why ropes fray at the ends" }

local kinds = {
  function()
    local thing, good = pick(things), random(2) == 1
    return "Answer with one word, positive or negative.",
      ("Review: \"The %s %s%s\""):format(thing, pick(good and praise or blame),
        random(3) == 1 and (", and %s told me the same."):format(pick(people)) or "."), 4
  end,
  function()
    local n, price = random(40) + 2, random(90) / 10 + 0.5
    return "Solve the problem. Give only the number.",
      ("%s buys %d boxes of %s at $%.2f each and pays with a $500 note. How much change is due?"):format(
        pick(people), n, pick(goods), price), 16
  end,
  function()
    return "Translate the text. Keep its tone.", ("Into %s: %s %s"):format(pick(languages), pick(sentences),
      pick(sentences)), 80
  end,
  function()
    return "Extract name, city and date as JSON with the keys name, city, date.",
      ("Dear all,\n%s will visit us in %s on 2024-%02d-%02d and would like to see the %s samples.\nThanks"):format(
        pick(people), pick(cities), random(12), random(28), pick(things)), 60
  end,
  function()
    return "You write for curious adults. At most three sentences.", ("Explain %s."):format(pick(topics)), 150
  end,
  function()
    return "Sort the ticket into one of: billing, delivery, defect, other.",
      ("Ticket %d: I ordered a %s to %s and it %s. \\o/ Can somebody call %s?"):format(random(90000) + 9999,
        pick(things), pick(cities), pick(blame), pick(people)), 8
  end,
  function()
    return "Suggest a title of at most six words.", ("%s %s %s"):format(pick(sentences), pick(sentences),
      pick(sentences)), 20
  end,
}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n" }
local function quote(text) return '"' .. text:gsub('["\\\n]', escapes) .. '"' end

local seen = {}
for i = 1, COUNT do
  local system, user, max_tokens
  repeat system, user, max_tokens = kinds[random(#kinds)]() until not seen[user]
  seen[user] = true
  io.write(('{"custom_id":"req-%04d","method":"POST","url":"/v1/chat/completions","body":{"model":"demo",'):format(i),
    '"messages":[{"role":"system","content":', quote(system), '},{"role":"user","content":', quote(user),
    ('}],"max_tokens":%d,"temperature":%.1f}}\n'):format(max_tokens, (random(11) - 1) / 10))
end
