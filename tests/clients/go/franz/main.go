// franz-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"penstock/tests/clients/go/flow"
)

type client struct {
	bootstrap string
	admin     *kadm.Client
}

func connect(bootstrap string) (flow.Client, error) {
	inner, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, err
	}
	return &client{bootstrap, kadm.NewClient(inner)}, nil
}

// The driver bounds the process.
var unbounded = context.Background()

func refused(err error) error {
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return flow.ErrExists
	}
	var broker *kerr.Error
	if errors.As(err, &broker) {
		return fmt.Errorf("%w: %s %s", flow.ErrRefused, broker.Message, broker.Description)
	}
	return err
}

func (c *client) CreateTopic(topic string, partitions int32, config map[string]string) error {
	configs := map[string]*string{}
	for name, value := range config {
		configs[name] = &value
	}
	_, err := c.admin.CreateTopic(unbounded, partitions, 1, configs, topic)
	return refused(err)
}

func (c *client) ListTopics() ([]string, error) {
	topics, err := c.admin.ListTopics(unbounded)
	return topics.Names(), err
}

func (c *client) Partitions(topic string) (int, error) {
	topics, err := c.admin.ListTopics(unbounded, topic)
	return len(topics[topic].Partitions), err
}

func (c *client) DescribeConfig(topic string) (map[string]string, error) {
	described, err := c.admin.DescribeTopicConfigs(unbounded, topic)
	if err != nil {
		return nil, err
	}
	resource, err := described.On(topic, nil)
	all := map[string]string{}
	for _, config := range resource.Configs {
		all[config.Key] = config.MaybeValue()
	}
	return all, err
}

func (c *client) AlterConfig(topic, name, value string) error {
	answers, err := c.admin.AlterTopicConfigs(unbounded, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	if err != nil {
		return err
	}
	answer, err := answers.On(topic, nil)
	return refused(errors.Join(err, answer.Err))
}

func (c *client) CreatePartitions(topic string, total int32) error {
	answers, err := c.admin.UpdatePartitions(unbounded, int(total), topic)
	if err != nil {
		return err
	}
	return refused(answers.Error())
}

func (c *client) DeleteTopic(topic string) error {
	_, err := c.admin.DeleteTopic(unbounded, topic)
	return refused(err)
}

func (c *client) ListGroups() ([]string, error) {
	groups, err := c.admin.ListGroups(unbounded)
	return groups.Groups(), err
}

func (c *client) DescribeGroup(group string) (string, int, error) {
	groups, err := c.admin.DescribeGroups(unbounded, group)
	return groups[group].State, len(groups[group].Members), errors.Join(err, groups.Error())
}

func (c *client) DeleteGroup(group string) error {
	_, err := c.admin.DeleteGroup(unbounded, group)
	return refused(err)
}

func (c *client) Produce(topic string, records []flow.Record, codec string, idempotent bool) ([]int64, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(c.bootstrap), kgo.ProducerBatchCompression(codecs[codec]), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(20 * time.Millisecond),
	}
	if !idempotent {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	producer, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var sent []*kgo.Record
	for _, record := range records {
		out := &kgo.Record{Topic: topic, Key: []byte(record.Key), Value: []byte(record.Value), Partition: record.Partition}
		for _, header := range record.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: header.Key, Value: []byte(header.Value)})
		}
		if record.Timestamp != 0 {
			out.Timestamp = time.UnixMilli(record.Timestamp)
		}
		sent = append(sent, out)
	}
	if err := producer.ProduceSync(unbounded, sent...).FirstErr(); err != nil {
		return nil, err
	}
	var offsets []int64
	for _, record := range sent {
		offsets = append(offsets, record.Offset)
	}
	return offsets, nil
}

type consumer struct {
	inner *kgo.Client
	lock  sync.Mutex
	held  []int32
}

func (c *client) Assign(topic string, partition int32, position int64) (flow.Consumer, error) {
	offset := kgo.NewOffset().At(position)
	switch position {
	case flow.Start:
		offset = kgo.NewOffset().AtStart()
	case flow.End:
		offset = kgo.NewOffset().AtEnd()
	}
	inner, err := kgo.NewClient(
		kgo.SeedBrokers(c.bootstrap), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: offset}}),
	)
	return &consumer{inner: inner}, err
}

func (c *client) Join(group, topic string) (flow.Consumer, error) {
	member := &consumer{}
	var err error
	member.inner, err = kgo.NewClient(
		kgo.SeedBrokers(c.bootstrap), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(member.assigned), kgo.OnPartitionsRevoked(member.gone), kgo.OnPartitionsLost(member.gone),
	)
	return member, err
}

func (c *consumer) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, partitions := range added {
		c.held = append(c.held, partitions...)
	}
}

func (c *consumer) gone(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, partitions := range lost {
		c.held = slices.DeleteFunc(c.held, func(at int32) bool { return slices.Contains(partitions, at) })
	}
}

func (c *consumer) Poll() ([]flow.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	fetches := c.inner.PollFetches(ctx)
	var records []flow.Record
	fetches.EachRecord(func(record *kgo.Record) {
		in := flow.Record{
			Key: string(record.Key), Value: string(record.Value), Partition: record.Partition,
			Timestamp: record.Timestamp.UnixMilli(), Offset: record.Offset,
		}
		for _, header := range record.Headers {
			in.Headers = append(in.Headers, flow.Header{Key: header.Key, Value: string(header.Value)})
		}
		records = append(records, in)
	})
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) {
			return records, failed.Err
		}
	}
	return records, nil
}

func (c *consumer) Held() []int32 {
	c.lock.Lock()
	defer c.lock.Unlock()
	return slices.Clone(c.held)
}

func (c *consumer) Commit(topic string, partition int32, offset int64) error {
	c.inner.CommitOffsetsSync(unbounded, map[string]map[int32]kgo.EpochOffset{topic: {partition: {Epoch: -1, Offset: offset}}}, nil)
	committed := c.inner.CommittedOffsets()[topic][partition]
	if committed.Offset != offset {
		return fmt.Errorf("committed %d, not %d", committed.Offset, offset)
	}
	return nil
}

func (c *consumer) Close() error {
	c.inner.Close()
	return nil
}

func (c *client) OffsetForTime(topic string, partition int32, milliseconds int64) (int64, error) {
	listed, err := c.admin.ListOffsetsAfterMilli(unbounded, milliseconds, topic)
	if err != nil {
		return 0, err
	}
	found, _ := listed.Lookup(topic, partition)
	return found.Offset, found.Err
}

func main() { flow.Main(connect) }
