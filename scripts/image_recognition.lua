#!/usr/bin/env neap
-- Case study 2: moderates a folder of images, 50 at a time. Files are read and
-- encoded off the loop's thread; one image that fails does not stop the others.
--
--   $ export API_KEY=...
--   $ neap scripts/image_recognition.lua https://api.openai.com/v1 ~/pictures > results.jsonl
--   $ neap scripts/image_recognition.lua http://127.0.0.1:8080/v1 pictures   # with `neap mock`
--   {"path":"pictures/0001.png","flagged":false,"categories":[]}
--   {"path":"pictures/0002.jpg","flagged":true,"categories":["violence"]}
--   {"path":"pictures/broken.png","error":"invalid: the file is empty"}
--   3 images: 2 answered, 1 flagged, 1 failed
local neap = require "neap"

local CONCURRENCY = 50
local TYPES = { png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", webp = "image/webp" }

local base_url, folder = ...
if not folder then
  io.stderr:write "usage: neap image_recognition.lua BASE_URL FOLDER (the key in API_KEY)\n"
  neap.host.set_exit_code(2)
  return
end

local api = neap.policy.standard {
  client = neap.http.client {
    base_url = base_url,
    headers = { Authorization = "Bearer " .. (os.getenv "API_KEY" or "none") },
    max_connections = CONCURRENCY,
    timeout = { total = 60 },
  },
  retry = { max_attempts = 4, backoff = { base = 0.2, max = 10 } },
  bulkhead = CONCURRENCY,
}

local function read_image(path, kind)
  local data, err = neap.fs.read_base64(path)
  if not data then return nil, err end
  if data == "" then return nil, neap.error.new { kind = "invalid", message = "the file is empty" } end
  return ("data:%s;base64,%s"):format(kind, data)
end

local function names_of(categories)
  local names = {}
  for name, is_flagged in pairs(categories) do
    if is_flagged then names[#names + 1] = name end
  end
  table.sort(names)
  return neap.json.array(names)
end

--- What the service says about one image.
local function analyse(name)
  local path = folder .. "/" .. name
  local image, err = read_image(path, TYPES[name:lower():match "%.(%w+)$"])
  if not image then return nil, err end
  local res, request_err = api:post("/moderations", {
    json = { model = "omni-moderation-latest", input = { { type = "image_url", image_url = { url = image } } } },
    headers = { ["X-Client-Request-Id"] = name },
    idempotency_key = true,
  })
  if not res then return nil, request_err end
  if res.status ~= 200 then return nil, neap.error.new { kind = "status", status = res.status, message = res.body } end
  local verdict = res:json().results[1]
  return { path = path, flagged = verdict.flagged, categories = names_of(verdict.categories) }
end

local images, place = {}, 0
for _, name in ipairs(assert(neap.fs.list(folder))) do
  if TYPES[name:lower():match "%.(%w+)$" or ""] then images[#images + 1] = name end
end

local answered, flagged = 0, 0
local function next_image()
  place = place + 1
  return images[place]
end
for i, result, err in neap.imap(next_image, analyse, { concurrency = CONCURRENCY, ordered = true }) do
  if result then answered = answered + 1 end
  if result and result.flagged then flagged = flagged + 1 end
  print(neap.json.encode(result or { path = folder .. "/" .. images[i], error = tostring(err) }))
end
io.stderr:write(("%d images: %d answered, %d flagged, %d failed\n"):format(#images, answered, flagged,
  #images - answered))
