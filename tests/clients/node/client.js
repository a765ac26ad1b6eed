// kafkajs. Arguments: BOOTSTRAP CAPABILITY RUN; ends with 0 if the capability holds, with 3 and a line
// `cannot: reason` if kafkajs doesn't have it, else with an error.
'use strict';

const assert = require('node:assert/strict');
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs');
const SnappyCodec = require('kafkajs-snappy');

CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec;

const [bootstrap, capability, run] = process.argv.slice(2);
const kafka = new Kafka({ clientId: 'matrix', brokers: [bootstrap], logLevel: logLevel.NOTHING });
const admin = kafka.admin();
const DEADLINE_MS = 45000;
const FILL = 'penstock '.repeat(30);
const TOPIC_CONFIG = 2;

class Cannot extends Error {}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function waitUntil(condition, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not so within ${DEADLINE_MS} ms: ${what()}`);
    await pause(50);
  }
}

// kafkajs wraps refusals of several kinds.
const refusal = (error) => `${error.type} ${error.message} ${(error.errors || error.groups || []).map((e) => `${e.type} ${e.error}`)}`;

async function fresh(topic, numPartitions = 1, configEntries = []) {
  const created = await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] });
  assert.equal(created, true, `${topic} existed before`);
  await waitUntil(async () => (await admin.listTopics()).includes(topic), () => `${topic} in the list`);
  return topic;
}

const partitionCount = async (topic) =>
  (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length;

async function config(topic, name) {
  const described = await admin.describeConfigs({ resources: [{ type: TOPIC_CONFIG, name: topic }] });
  return described.resources[0].configEntries.find((entry) => entry.configName === name).configValue;
}

// The offset of the first record per partition.
async function produce(topic, messages, options = {}) {
  const producer = kafka.producer({ idempotent: options.idempotent || false, maxInFlightRequests: 1 });
  await producer.connect();
  const answer = await producer.send({ topic, messages, acks: -1, compression: options.compression });
  await producer.disconnect();
  return Object.fromEntries(answer.map((at) => [at.partition, at.baseOffset]));
}

const numbered = (first, end, partition = 0) =>
  Array.from({ length: end - first }, (_, at) => ({ key: `k${first + at}`, value: `${first + at}`, partition }));

const values = (records) => records.map((record) => record.value.toString());

// A member of a group that notes what it holds and what it got.
class Member {
  constructor(group) {
    this.received = [];
    this.held = [];
    this.consumer = kafka.consumer({
      groupId: group, sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 100,
    });
    this.consumer.on(this.consumer.events.GROUP_JOIN, (event) => {
      this.held = Object.values(event.payload.memberAssignment).flat();
    });
  }

  async start(topic, fromBeginning = true) {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [topic], fromBeginning });
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => { this.received.push({ partition, ...message }); },
    });
    return this;
  }

  async stop() {
    await this.consumer.disconnect();
    this.held = [];
  }

  async got(count) {
    await waitUntil(() => this.received.length >= count, () => `${count} records, ${this.received.length} came`);
    return this.received;
  }
}

async function produceCapability(codec, idempotent = false) {
  const types = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy };
  if (!(codec in types)) throw new Cannot(`has ${codec} only through a native add-on`);
  const topic = await fresh(run, 2);
  const sent = Array.from({ length: 40 }, (_, number) => ({
    key: `key-${number}`, value: `value-${number} ${FILL}`, partition: number % 2,
    headers: { codec, number: `${number}` },
  }));
  const bases = await produce(topic, sent, { compression: types[codec], idempotent });
  assert.deepEqual(bases, { 0: '0', 1: '0' }, 'base offsets');
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
  const shares = async (members, wanted) => waitUntil(
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
    for (const member of members) {
      for (const record of member.received.filter(ours)) assert.ok(member.held.includes(record.partition), 'a stranger');
    }
    // So that a rebalance goes on from here.
    await members[0].consumer.commitOffsets([0, 1, 2, 3, 4, 5].map((partition) => ({ topic, partition, offset: `${first / 10 + 10}` })));
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

const capabilities = {
  'create-topic': async () => {
    const topic = await fresh(run, 3, [{ name: 'retention.ms', value: '7654321' }]);
    assert.equal(await partitionCount(topic), 3);
    assert.equal(await config(topic, 'retention.ms'), '7654321');
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
    const member = await new Member(run).start(topic, false);
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
    // Past the last record kafkajs gives the end itself.
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
  'admin-configs': async () => {
    const topic = await fresh(run);
    const alter = (value) => admin.alterConfigs({ resources: [{ type: TOPIC_CONFIG, name: topic, configEntries: [{ name: 'retention.ms', value }] }] });
    assert.equal(await config(topic, 'retention.ms'), '604800000');
    await alter('123456');
    assert.equal(await config(topic, 'retention.ms'), '123456');
    await assert.rejects(alter('soon'), (error) => /INVALID_CONFIG|invalid/i.test(refusal(error)));
    assert.equal(await config(topic, 'retention.ms'), '123456');
  },
  'admin-groups': async () => {
    const member = await usedGroup();
    assert.ok((await admin.listGroups()).groups.some((group) => group.groupId === run), 'not listed');
    assert.deepEqual(await describeGroup(), ['Stable', 1]);
    await member.stop();
    await waitUntil(async () => (await describeGroup()).join() === 'Empty,0', () => 'an empty group');
  },
  'admin-delete-group': async () => {
    const member = await usedGroup();
    await assert.rejects(admin.deleteGroups([run]), (error) => error.groups[0].error.type === 'NON_EMPTY_GROUP');
    await member.stop();
    await admin.deleteGroups([run]);
    assert.ok(!(await admin.listGroups()).groups.some((group) => group.groupId === run), 'still listed');
  },
  'admin-partitions': async () => {
    const topic = await fresh(run);
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    await waitUntil(async () => (await partitionCount(topic)) === 3, () => 'three partitions');
    assert.deepEqual(await produce(topic, numbered(0, 1, 2)), { 2: '0' });
    await assert.rejects(admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }), (error) => /INVALID_PARTITIONS/.test(refusal(error)));
  },
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
