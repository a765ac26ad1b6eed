// @confluentinc/kafka-javascript (librdkafka), through its kafkajs-like interface; run by hand. Arguments: BOOTSTRAP
// CAPABILITY RUN; ends with 0 if the capability holds, with 3 and a line `cannot: reason` if the client doesn't have it,
// else with an error.
'use strict';

const assert = require('node:assert/strict');
const { KafkaJS } = require('@confluentinc/kafka-javascript');

const { ConsumerGroupStates, Kafka, logLevel } = KafkaJS;
const [bootstrap, capability, run] = process.argv.slice(2);
const kafka = new Kafka({ kafkaJS: { clientId: 'matrix', brokers: [bootstrap], logLevel: logLevel.NOTHING } });
const admin = kafka.admin();
const DEADLINE_MS = 45000;
const FILL = 'penstock '.repeat(30);

class Cannot extends Error {}

const cannot = (what) => async () => { throw new Cannot(what); };
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function waitUntil(condition, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not so within ${DEADLINE_MS} ms: ${what()}`);
    await pause(50);
  }
}

async function fresh(topic, numPartitions = 1, configEntries = []) {
  const created = await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] });
  assert.equal(created, true, `${topic} existed before`);
  await waitUntil(async () => (await admin.listTopics()).includes(topic), () => `${topic} in the list`);
  return topic;
}

const partitionCount = async (topic) =>
  (await admin.fetchTopicMetadata({ topics: [topic] }))[0].partitions.length;

// The offset of the first record per partition.
async function produce(topic, messages, { codec = 'none', idempotent = false } = {}) {
  const producer = kafka.producer({ kafkaJS: { idempotent, acks: -1, compression: codec }, 'linger.ms': 20 });
  await producer.connect();
  // It changes what it is given.
  const answers = await producer.send({ topic, messages: messages.map((message) => ({ ...message })) });
  await producer.disconnect();
  const bases = {};
  for (const { partition, baseOffset } of answers) {
    bases[partition] = Math.min(bases[partition] ?? Infinity, Number(baseOffset));
  }
  return bases;
}

const numbered = (first, end, partition = 0) =>
  Array.from({ length: end - first }, (_, at) => ({ key: `k${first + at}`, value: `${first + at}`, partition }));

const values = (records) => records.map((record) => record.value.toString());

// A member of a group that notes what it got.
class Member {
  constructor(group, fromBeginning = true) {
    this.received = [];
    this.consumer = kafka.consumer({
      kafkaJS: {
        groupId: group, fromBeginning, autoCommit: false, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 100,
      },
    });
  }

  async start(topic) {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [topic] });
    await this.consumer.run({
      eachMessage: async ({ partition, message }) => { this.received.push({ partition, ...message }); },
    });
    await waitUntil(() => this.held.length > 0, () => 'an assignment');
    return this;
  }

  get held() {
    return this.stopped ? [] : this.consumer.assignment().map((at) => at.partition);
  }

  async stop() {
    this.stopped = true;
    await this.consumer.disconnect();
  }

  async got(count) {
    await waitUntil(() => this.received.length >= count, () => `${count} records, ${this.received.length} came`);
    return this.received;
  }
}

async function produceCapability(codec, idempotent = false) {
  const topic = await fresh(run, 2);
  const sent = Array.from({ length: 40 }, (_, number) => ({
    key: `key-${number}`, value: `value-${number} ${FILL}`, partition: number % 2,
    headers: { codec, number: `${number}` },
  }));
  assert.deepEqual(await produce(topic, sent, { codec, idempotent }), { 0: 0, 1: 0 }, 'base offsets');
  const member = await new Member(run).start(topic);
  const received = await member.got(40);
  await member.stop();
  for (const partition of [0, 1]) {
    const here = received.filter((record) => record.partition === partition);
    assert.deepEqual(here.map((r) => r.offset), here.map((_, at) => `${at}`), 'offsets');
    assert.deepEqual(
      here.map((r) => [r.key.toString(), r.value.toString(), r.headers.codec.toString(), r.headers.number.toString()]),
      sent.filter((r) => r.partition === partition).map((r) => [r.key, r.value, r.headers.codec, r.headers.number]),
    );
  }
}

async function groupOfThree() {
  const topic = await fresh(run, 6);
  const everyone = [];
  const shares = (members, wanted) => waitUntil(
    () => {
      const held = members.flatMap((m) => m.held).sort();
      return String(members.map((m) => m.held.length).sort()) === String(wanted) && String(held) === '0,1,2,3,4,5';
    },
    () => `shares ${wanted}: ${members.map((m) => `[${m.held}]`)}`,
  );
  const exchange = async (members, first) => {
    const sent = [0, 1, 2, 3, 4, 5].flatMap((p) => numbered(first + p * 10, first + p * 10 + 10, p));
    await produce(topic, sent);
    const ours = (record) => Number(record.value) >= first && Number(record.value) < first + 100;
    const got = () => everyone.flatMap((m) => m.received).filter(ours);
    await waitUntil(() => got().length >= sent.length, () => `${sent.length} records, ${got().length} came`);
    assert.deepEqual(values(got()).sort(), values(sent).sort(), 'each record once');
    // So that a rebalance goes on from here.
    for (const member of members) {
      for (const record of member.received.filter(ours)) assert.ok(member.held.includes(record.partition), 'a stranger');
      await member.consumer.commitOffsets(member.held.map((partition) => ({ topic, partition, offset: `${first / 10 + 10}` })));
    }
  };
  everyone.push(await new Member(run).start(topic));
  await shares(everyone, [6]);
  await exchange(everyone, 0);
  everyone.push(...await Promise.all([new Member(run).start(topic), new Member(run).start(topic)]));
  await shares(everyone, [2, 2, 2]);
  await exchange(everyone, 100);
  await everyone[0].stop();
  await shares(everyone.slice(1), [3, 3]);
  await exchange(everyone.slice(1), 200);
  await Promise.all(everyone.slice(1).map((m) => m.stop()));
}

async function usedGroup() {
  const topic = await fresh(run);
  await produce(topic, numbered(0, 1));
  const member = await new Member(run).start(topic);
  await member.got(1);
  await member.consumer.commitOffsets([{ topic, partition: 0, offset: '1' }]);
  return member;
}

const describeGroup = async () => {
  const [group] = (await admin.describeGroups([run])).groups;
  return [group.state, group.members.length];
};

const isListed = async () => (await admin.listGroups()).groups.some((group) => group.groupId === run);

const capabilities = {
  'create-topic': async () => {
    const topic = await fresh(run, 3, [{ name: 'retention.ms', value: '7654321' }]);
    assert.equal(await partitionCount(topic), 3);
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] }), false, 'a topic was created twice');
  },
  ...Object.fromEntries(['none', 'gzip', 'snappy', 'lz4', 'zstd'].map((codec) => [`produce-${codec}`, () => produceCapability(codec)])),
  idempotent: () => produceCapability('none', true),
  'consume-start': async () => {
    const topic = await fresh(run);
    await produce(topic, numbered(0, 20));
    const member = await new Member(run).start(topic);
    assert.deepEqual(values(await member.got(20)), values(numbered(0, 20)));
    member.received.length = 0;
    member.consumer.seek({ topic, partition: 0, offset: '15' });
    assert.deepEqual(values(await member.got(5)), values(numbered(15, 20)));
    await member.stop();
  },
  'consume-end': async () => {
    const topic = await fresh(run);
    await produce(topic, numbered(0, 5));
    const member = await new Member(run, false).start(topic);
    let sent = 5;
    while (member.received.length === 0 && sent < 100) {
      await produce(topic, numbered(sent, sent + 1));
      sent += 1;
      await pause(300);
    }
    await waitUntil(() => member.received.some((r) => r.offset === `${sent - 1}`), () => `the record at ${sent - 1}`);
    const first = Number(member.received[0].offset);
    assert.ok(first >= 5, `offset ${first} was there before`);
    assert.deepEqual(values(member.received), values(numbered(first, sent)));
    await member.stop();
  },
  'consume-timestamp': async () => {
    const topic = await fresh(run);
    const base = 1700000000000;
    await produce(topic, numbered(0, 10).map((record, at) => ({ ...record, timestamp: `${base + at * 1000}` })));
    const offset = async (timestamp) => (await admin.fetchTopicOffsetsByTimestamp(topic, timestamp))[0].offset;
    // Past the last record it gives the end itself.
    for (const [asked, wanted] of [[-1, '0'], [4000, '4'], [4001, '5'], [9000, '9'], [9001, '10']]) {
      assert.equal(await offset(base + asked), wanted, `base + ${asked}`);
    }
    const member = await new Member(run).start(topic);
    await member.got(10);
    assert.deepEqual(member.received.map((r) => Number(r.timestamp) - base), Array.from({ length: 10 }, (_, at) => at * 1000));
    member.received.length = 0;
    member.consumer.seek({ topic, partition: 0, offset: await offset(base + 6500) });
    assert.deepEqual(values(await member.got(3)), ['7', '8', '9']);
    await member.stop();
  },
  'group-of-three': groupOfThree,
  'offsets-resumed': async () => {
    const topic = await fresh(run);
    await produce(topic, numbered(0, 20));
    const first = await new Member(run).start(topic);
    assert.deepEqual(values(await first.got(10)).slice(0, 10), values(numbered(0, 10)));
    await first.consumer.commitOffsets([{ topic, partition: 0, offset: '10' }]);
    await first.stop();
    const second = await new Member(run).start(topic);
    assert.deepEqual(values(await second.got(10)), values(numbered(10, 20)));
    await second.stop();
  },
  'admin-topics': async () => {
    for (const partitions of [1, 4]) {
      const topic = await fresh(`${run}-${partitions}`, partitions);
      assert.equal(await partitionCount(topic), partitions);
    }
  },
  'admin-configs': cannot('has no DescribeConfigs'),
  'admin-groups': async () => {
    const member = await usedGroup();
    assert.ok(await isListed(), 'not listed');
    assert.deepEqual(await describeGroup(), [ConsumerGroupStates.STABLE, 1]);
    await member.stop();
    await waitUntil(async () => (await describeGroup()).join() === `${ConsumerGroupStates.EMPTY},0`, () => 'an empty group');
  },
  'admin-delete-group': async () => {
    const member = await usedGroup();
    await assert.rejects(admin.deleteGroups([run]), (error) => /non.?empty|not empty/i.test(`${error.message} ${JSON.stringify(error.groups)}`));
    await member.stop();
    await admin.deleteGroups([run]);
    assert.ok(!(await isListed()), 'still listed');
  },
  'admin-partitions': cannot('has no CreatePartitions'),
  'admin-delete': async () => {
    const topic = await fresh(run);
    await admin.deleteTopics({ topics: [topic] });
    await waitUntil(async () => !(await admin.listTopics()).includes(topic), () => 'still listed');
  },
};

async function main() {
  await admin.connect();
  try {
    await capabilities[capability]();
  } finally {
    await admin.disconnect();
  }
}

main().then(() => process.exit(0), (error) => {
  if (error instanceof Cannot) {
    console.log(`cannot: ${error.message}`);
    process.exit(3);
  }
  console.error(error);
  process.exit(1);
});
