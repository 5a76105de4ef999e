#!/usr/bin/env neap
-- Case study 2: moderates a folder of images, 50 at a time. Files are read and
-- encoded off the loop's thread; one image that fails does not stop the others.
--
--   $ export API_KEY=...
--   $ neap scripts/image_recognition.lua https://api.openai.com ~/pictures > results.jsonl
--   $ neap scripts/image_recognition.lua http://127.0.0.1:8080 pictures   # with `neap mock`
--   {"flagged":false,"categories":[],"path":"pictures\/0015.jpg"}
--   {"flagged":true,"categories":["violence"],"path":"pictures\/0016.jpg"}
--   {"path":"pictures\/broken.png","error":"the file is empty"}
--   3 images: 2 answered, 1 flagged, 1 failed      (and the exit code is 1)
local neap = require "neap"

local CONCURRENCY = 50
local TYPES = { png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", webp = "image/webp" }

local url, folder = ...
if not folder then
  io.stderr:write "usage: neap image_recognition.lua URL FOLDER (the key in API_KEY)\n"
  return neap.host.set_exit_code(2)
end

local api = neap.policy.standard {
  client = assert(neap.http.client {
    base_url = url,
    headers = { Authorization = "Bearer " .. (os.getenv "API_KEY" or "none") },
    max_connections = CONCURRENCY, timeout = { total = 60 },
  }),
  retry = { max_attempts = 4, backoff = { base = 0.2, max = 10 } },
  bulkhead = CONCURRENCY,
}

local function type_of(name) return TYPES[name:lower():match "%.(%w+)$" or ""] end

local function read_image(path, kind)
  local data, err = neap.fs.read_base64(path)
  if not data then return nil, err end
  if data == "" then return nil, "the file is empty" end
  return ("data:%s;base64,%s"):format(kind, data)
end

--- The line for an image, from the service's answer; nil and an error when there is no result in it.
local function verdict_on(path, answer)
  local results = type(answer) == "table" and answer.results
  local verdict = type(results) == "table" and results[1]
  if type(verdict) ~= "table" or type(verdict.categories) ~= "table" then
    return nil, "the answer holds no moderation result"
  end
  local names = {}
  for name, yes in pairs(verdict.categories) do if yes == true then names[#names + 1] = name end end
  table.sort(names)
  return { path = path, flagged = verdict.flagged == true, categories = neap.json.array(names) }
end

--- What the service says about one image.
local function analyse(name)
  local path = folder .. "/" .. name
  local image, err = read_image(path, type_of(name))
  if not image then return nil, err end
  local res, request_err = api:post("/v1/moderations", {
    json = { model = "omni-moderation-latest", input = { { type = "image_url", image_url = { url = image } } } },
    headers = { ["X-Client-Request-Id"] = name }, idempotency_key = true,
  })
  if not res or res.status ~= 200 then return nil, request_err or "HTTP " .. res.status end
  return verdict_on(path, res:json())
end

local images, place = {}, 0
for _, name in ipairs(assert(neap.fs.list(folder))) do
  if type_of(name) then images[#images + 1] = name end
end

local failed, flagged = 0, 0
local function next_image() place = place + 1; return images[place] end
for i, result, err in neap.imap(next_image, analyse, { concurrency = CONCURRENCY, ordered = true }) do
  if not result then failed = failed + 1 elseif result.flagged then flagged = flagged + 1 end
  print(neap.json.encode(result or { path = folder .. "/" .. images[i], error = tostring(err) }))
end
io.stderr:write(("%d images: %d answered, %d flagged, %d failed\n"):format(#images, #images - failed, flagged, failed))
if failed > 0 then neap.host.set_exit_code(1) end
