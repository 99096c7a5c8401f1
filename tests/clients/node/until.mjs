import { setTimeout as sleep } from 'node:timers/promises'

const WAIT_MS = 30_000

/** Wait until the condition holds; `what` is said when it never does. */
export async function until(condition, what) {
  const deadline = Date.now() + WAIT_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`)
    await sleep(20)
  }
}
