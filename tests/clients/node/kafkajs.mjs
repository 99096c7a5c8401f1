// What kafkajs is asked to do; each scenario throws when the broker does not serve it as Kafka would.

import assert from 'node:assert/strict'
import kafkajs from 'kafkajs'
import { until } from './until.mjs'

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'

function open(bootstrap) {
  return new Kafka({ clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.ERROR })
}

async function withAdmin(bootstrap, act) {
  const admin = open(bootstrap).admin()
  await admin.connect()
  try {
    return await act(admin)
  } finally {
    await admin.disconnect()
  }
}

function create(bootstrap, topic, numPartitions) {
  return withAdmin(bootstrap, admin => admin.createTopics({ topics: [{ topic, numPartitions }] }))
}

async function send(bootstrap, topic, messages, options = {}) {
  const { compression, ...config } = options
  const producer = open(bootstrap).producer(config)
  await producer.connect()
  const answer = await producer.send({ topic, acks: -1, messages, compression })
  await producer.disconnect()
  return answer
}

function numbers(count, partitions) {
  return Array.from({ length: count }, (_, i) => ({ value: String(i), partition: i % partitions }))
}

/** A member that notes what it reads and what it is assigned. */
async function member(bootstrap, group, topic, { autoCommit = false } = {}) {
  const timing = { heartbeatInterval: 200, sessionTimeout: 10_000, maxWaitTimeInMs: 100 }
  const consumer = open(bootstrap).consumer({ groupId: group, ...timing })
  const seen = { records: [], partitions: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    seen.partitions = payload.memberAssignment[topic] ?? []
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit,
    eachMessage: async ({ partition, message }) => {
      seen.records.push({ partition, ...message })
    }
  })
  return { consumer, seen }
}

const text = buffer => (buffer == null ? null : buffer.toString())

export async function roundTrip({ bootstrap, prefix, argument: codec }) {
  await create(bootstrap, prefix, 1)
  const compression = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[codec]
  const messages = [
    { key: 'k', value: 'v'.repeat(1000), headers: { a: '1', b: '2' } },
    { key: null, value: '' },
    { key: 'tombstone', value: null }
  ]
  const [answer] = await send(bootstrap, prefix, messages, { compression })
  assert.equal(answer.baseOffset, '0')
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 3, 'three records')
  await consumer.disconnect()
  assert.deepEqual(
    seen.records.map(r => [text(r.key), text(r.value)]),
    [['k', 'v'.repeat(1000)], [null, ''], ['tombstone', null]]
  )
  assert.equal(text(seen.records[0].headers.a), '1')
  assert.equal(text(seen.records[0].headers.b), '2')
}

export async function twoMembers({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 4)
  await send(bootstrap, prefix, numbers(40, 4))
  const first = await member(bootstrap, prefix, prefix, { autoCommit: true })
  await until(() => first.seen.records.length === 40, 'all records at the first member')
  const second = await member(bootstrap, prefix, prefix, { autoCommit: true })
  await until(() => first.seen.partitions.length === 2 && second.seen.partitions.length === 2, 'an equal share')
  assert.deepEqual([...first.seen.partitions, ...second.seen.partitions].sort(), [0, 1, 2, 3])
  await first.consumer.disconnect()
  await until(() => second.seen.partitions.length === 4, 'everything at the second member')
  await send(bootstrap, prefix, numbers(4, 4))
  await until(() => second.seen.records.length >= 4, 'the new records at the second member')
  await second.consumer.disconnect()
  assert.deepEqual(second.seen.records.map(r => Number(text(r.value))).sort(), [0, 1, 2, 3])
}

export async function commit({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  await send(bootstrap, prefix, numbers(10, 1))
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 10, 'ten records')
  await consumer.commitOffsets([{ topic: prefix, partition: 0, offset: '7', metadata: 'seven' }])
  await consumer.disconnect()
}

export async function resume({ bootstrap, prefix }) {
  const [found] = await withAdmin(bootstrap, admin => admin.fetchOffsets({ groupId: prefix, topics: [prefix] }))
  assert.deepEqual(found.partitions, [{ partition: 0, offset: '7', metadata: 'seven' }])
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 3, 'the records after the commit')
  await consumer.disconnect()
  assert.deepEqual(seen.records.map(r => r.offset), ['7', '8', '9'])
}

export async function idempotent({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  const producer = open(bootstrap).producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let i = 0; i < 50; i++) await producer.send({ topic: prefix, acks: -1, messages: [{ value: String(i) }] })
  await producer.disconnect()
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.records.length === 50, 'fifty records')
  await consumer.disconnect()
  assert.deepEqual(seen.records.map(r => Number(text(r.value))), Array.from({ length: 50 }, (_, i) => i))
}

export async function autoCreate({ bootstrap, prefix }) {
  const [answer] = await send(bootstrap, prefix, [{ value: 'x' }])
  assert.equal(answer.errorCode, 0)
}

export async function offsetsByTime({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  const times = Array.from({ length: 10 }, (_, i) => ({ value: 'x', timestamp: String(1_700_000_000_000 + i * 1000) }))
  for (const message of times) await send(bootstrap, prefix, [message])
  await withAdmin(bootstrap, async admin => {
    const [found] = await admin.fetchTopicOffsetsByTimestamp(prefix, 1_700_000_004_500)
    assert.equal(found.offset, '5')
    const [ends] = await admin.fetchTopicOffsets(prefix)
    assert.deepEqual([ends.low, ends.high], ['0', '10'])
  })
}

export async function adminTopics({ bootstrap, prefix }) {
  await withAdmin(bootstrap, async admin => {
    const configEntries = [{ name: 'retention.ms', value: '12345' }]
    assert.equal(await admin.createTopics({ topics: [{ topic: prefix, numPartitions: 2, configEntries }] }), true)
    assert.equal(await admin.createTopics({ topics: [{ topic: prefix, numPartitions: 2 }] }), false)
    await admin.createPartitions({ topicPartitions: [{ topic: prefix, count: 3 }] })
    const { topics } = await admin.fetchTopicMetadata({ topics: [prefix] })
    assert.equal(topics[0].partitions.length, 3)
    const resource = { type: ConfigResourceTypes.TOPIC, name: prefix, configNames: ['retention.ms'] }
    const configs = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
    assert.equal(configs.resources[0].configEntries[0].configValue, '12345')
    assert.ok((await admin.listTopics()).includes(prefix))
    await admin.deleteTopics({ topics: [prefix] })
    assert.ok(!(await admin.listTopics()).includes(prefix))
    assert.equal((await admin.describeCluster()).brokers.length, 1)
  })
}

export async function adminGroups({ bootstrap, prefix }) {
  await create(bootstrap, prefix, 1)
  const { consumer, seen } = await member(bootstrap, prefix, prefix)
  await until(() => seen.partitions.length === 1, 'an assignment')
  await withAdmin(bootstrap, async admin => {
    const described = (await admin.describeGroups([prefix])).groups[0]
    assert.deepEqual([described.state, described.members.length], ['Stable', 1])
    assert.ok((await admin.listGroups()).groups.some(group => group.groupId === prefix))
    await consumer.disconnect()
    await admin.setOffsets({ groupId: prefix, topic: prefix, partitions: [{ partition: 0, offset: '4' }] })
    const [found] = await admin.fetchOffsets({ groupId: prefix, topics: [prefix] })
    assert.equal(found.partitions[0].offset, '4')
    await admin.deleteGroups([prefix])
    assert.ok(!(await admin.listGroups()).groups.some(group => group.groupId === prefix))
  })
}
