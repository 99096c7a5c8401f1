// Runs one scenario of a client: node run.mjs CLIENT SCENARIO BOOTSTRAP PREFIX [ARGUMENT]. Exit code 0 means it held.

const [client, scenario, bootstrap, prefix, argument] = process.argv.slice(2)
const scenarios = await import(`./${client}.mjs`)
await scenarios[scenario]({ bootstrap, prefix, argument })
process.exit(0) // a client that leaves a timer behind must not keep us
