// COUNT posts to URL, IN_FLIGHT at a time: encode JSON, POST, decode JSON.
// usage: node undici.mjs URL COUNT IN_FLIGHT TEXT
import { Pool } from 'undici'

const [url, countText, inFlightText, text] = process.argv.slice(2)
const count = Number(countText)
const inFlight = Number(inFlightText)
const { origin, pathname } = new URL(url)
const pool = new Pool(origin, { connections: inFlight, pipelining: 1 })
const headers = { 'content-type': 'application/json' }
let next = 0
let done = 0
let failed = 0

async function call (i) {
  const body = JSON.stringify({ model: 'demo', i, max_tokens: 64, messages: [{ role: 'user', content: text }] })
  const res = await pool.request({ path: pathname, method: 'POST', headers, body })
  const answer = await res.body.json()
  return res.statusCode === 200 && answer.usage.total_tokens === 28
}

async function worker () {
  while (next < count) {
    const i = ++next
    try {
      if (await call(i)) done++
      else failed++
    } catch {
      failed++
    }
  }
}

await Promise.all(Array.from({ length: inFlight }, worker))
await pool.close()
console.log(`${done} done, ${failed} failed`)
process.exitCode = failed > 0 || done !== count ? 1 : 0
