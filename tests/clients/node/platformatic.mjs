// What @platformatic/kafka is asked to do; each scenario throws when the broker does not serve it as Kafka would.

import assert from 'node:assert/strict'
import { Admin, Consumer, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'
import { until } from './until.mjs'

const base = bootstrap => ({ clientId: 'platformatic', bootstrapBrokers: [bootstrap], retries: 3 })

async function withAdmin(bootstrap, act) {
  const admin = new Admin(base(bootstrap))
  try {
    return await act(admin)
  } finally {
    await admin.close()
  }
}

function create(bootstrap, topic, partitions) {
  return withAdmin(bootstrap, admin => admin.createTopics({ topics: [topic], partitions, replicas: 1 }))
}

async function send(bootstrap, messages, options = {}) {
  const producer = new Producer({ ...base(bootstrap), serializers: stringSerializers, autocreateTopics: true, ...options })
  try {
    return await producer.send({ messages, acks: -1 })
  } finally {
    await producer.close()
  }
}

function numbers(topic, count, partitions) {
  return Array.from({ length: count }, (_, i) => ({ topic, value: String(i), partition: i % partitions }))
}

/** A member that notes what it reads and what it is assigned. */
async function member(bootstrap, group, topic, { autocommit = false } = {}) {
  const consumer = new Consumer({ ...base(bootstrap), groupId: group, deserializers: stringDeserializers })
  const seen = { records: [], partitions: [] }
  consumer.on('consumer:group:join', ({ assignments }) => {
    seen.partitions = assignments?.find(assignment => assignment.topic === topic)?.partitions ?? []
  })
  const stream = await consumer.consume({
    topics: [topic],
    autocommit,
    mode: 'committed',
    fallbackMode: 'earliest',
    sessionTimeout: 10_000,
    heartbeatInterval: 200,
    maxWaitTime: 100
  })
  stream.on('data', record => seen.records.push(record))
  return { consumer, seen }
}

export async function roundTrip({ bootstrap, prefix, argument: compression }) {
  await create(bootstrap, prefix, 1)
  const messages = [
    { topic: prefix, key: 'k', value: 'v'.repeat(1000), headers: { a: '1', b: '2' } },
    { topic: prefix, value: '' },
    { topic: prefix, key: 'x', value: 'y' }
  ]
  const { offsets } = await send(bootstrap, messages, { compression })
  assert.equal(offsets[0].offset, 0n)
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 3, 'three records')
  await consumer.close(true)
  assert.deepEqual(seen.records.map(r => r.value), ['v'.repeat(1000), '', 'y'])
  assert.deepEqual([seen.records[0].key, seen.records[2].key], ['k', 'x'])
  assert.deepEqual([...seen.records[0].headers], [['a', '1'], ['b', '2']])
}

export async function twoMembers({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 4)
  await send(bootstrap, numbers(prefix, 40, 4))
  const first = await member(bootstrap, prefix, prefix, { autocommit: true })
  const values = () => new Set(first.seen.records.map(r => r.value)) // it may send a batch of a new topic twice
  await until(() => values().size === 40, 'all records at the first member')
  const second = await member(bootstrap, prefix, prefix, { autocommit: true })
  await until(() => first.seen.partitions.length === 2 && second.seen.partitions.length === 2, 'an equal share')
  assert.deepEqual([...first.seen.partitions, ...second.seen.partitions].sort(), [0, 1, 2, 3])
  await first.consumer.close(true)
  await until(() => second.seen.partitions.length === 4, 'everything at the second member')
  await send(bootstrap, numbers(prefix, 4, 4))
  await until(() => second.seen.records.length >= 4, 'the new records at the second member')
  await second.consumer.close(true)
  assert.deepEqual(second.seen.records.map(r => Number(r.value)).sort(), [0, 1, 2, 3])
}

export async function commit({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  await send(bootstrap, numbers(prefix, 10, 1))
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 10, 'ten records')
  await consumer.commit({ offsets: [{ topic: prefix, partition: 0, offset: 7n, leaderEpoch: 0 }] })
  await consumer.close(true)
}

export async function resume({ bootstrap, prefix }) {
  const [found] = await withAdmin(bootstrap, admin => admin.listConsumerGroupOffsets({ groups: [prefix] }))
  assert.equal(found.topics[0].partitions[0].committedOffset, 7n)
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 3, 'the records after the commit')
  await consumer.close(true)
  assert.deepEqual(seen.records.map(r => r.offset), [7n, 8n, 9n])
}

export async function idempotent({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  const producer = new Producer({ ...base(bootstrap), serializers: stringSerializers, idempotent: true })
  for (let i = 0; i < 50; i++) await producer.send({ messages: [{ topic: prefix, value: String(i) }] })
  await producer.close()
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 50, 'fifty records')
  await consumer.close(true)
  assert.deepEqual(seen.records.map(r => Number(r.value)), Array.from({ length: 50 }, (_, i) => i))
}

export async function autoCreate({ bootstrap, prefix }) {
  const { offsets } = await send(bootstrap, [{ topic: prefix, value: 'x' }])
  assert.equal(offsets[0].offset, 0n)
}

export async function offsetsByTime({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  for (let i = 0; i < 10; i++) {
    await send(bootstrap, [{ topic: prefix, value: 'x', timestamp: BigInt(1_700_000_000_000 + i * 1000) }])
  }
  const consumer = new Consumer({ ...base(bootstrap), groupId: prefix })
  const at = async timestamp => (await consumer.listOffsets({ topics: [prefix], timestamp })).get(prefix)[0]
  assert.deepEqual([await at(1_700_000_004_500n), await at(-2n), await at(-1n)], [5n, 0n, 10n])
  await consumer.close(true)
}

export async function adminTopics({ bootstrap, prefix }) {
  await withAdmin(bootstrap, async admin => {
    const configs = [{ name: 'retention.ms', value: '12345' }]
    const [created] = await admin.createTopics({ topics: [prefix], partitions: 2, replicas: 1, configs })
    assert.deepEqual([created.name, created.partitions, created.configuration['retention.ms']], [prefix, 2, '12345'])
    await assert.rejects(admin.createTopics({ topics: [prefix], partitions: 2, replicas: 1 }))
    await admin.createPartitions({ topics: [{ name: prefix, count: 3, assignments: null }] })
    const metadata = await admin.metadata({ topics: [prefix] })
    assert.equal(metadata.topics.get(prefix).partitionsCount, 3)
    assert.ok((await admin.listTopics()).includes(prefix))
    await admin.deleteTopics({ topics: [prefix] })
    assert.ok(!(await admin.listTopics()).includes(prefix))
  })
}

export async function adminGroups({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.partitions.length === 1, 'an assignment')
  await withAdmin(bootstrap, async admin => {
    const group = (await admin.describeGroups({ groups: [prefix] })).get(prefix)
    assert.deepEqual([group.state, group.members.size], ['STABLE', 1])
    assert.ok((await admin.listGroups()).has(prefix))
    await consumer.close(true)
    const topics = [{ name: prefix, partitionOffsets: [{ partition: 0, offset: 4n }] }]
    await admin.alterConsumerGroupOffsets({ groupId: prefix, topics })
    const [found] = await admin.listConsumerGroupOffsets({ groups: [prefix] })
    assert.equal(found.topics[0].partitions[0].committedOffset, 4n)
    await admin.deleteGroups({ groups: [prefix] })
    assert.ok(!(await admin.listGroups()).has(prefix))
  })
}
