// segmentio/kafka-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"penstock/tests/clients/go/flow"
)

type client struct {
	bootstrap string
	inner     *kafka.Client
}

func connect(bootstrap string) (flow.Client, error) {
	return &client{bootstrap, &kafka.Client{Addr: kafka.TCP(bootstrap), Timeout: flow.Deadline}}, nil
}

// The driver bounds the process.
var unbounded = context.Background()

func refused(err error) error {
	if errors.Is(err, kafka.TopicAlreadyExists) {
		return flow.ErrExists
	}
	var broker kafka.Error
	if errors.As(err, &broker) {
		return fmt.Errorf("%w: %s", flow.ErrRefused, err)
	}
	return err
}

func (c *client) CreateTopic(topic string, partitions int32, config map[string]string) error {
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: int(partitions), ReplicationFactor: 1}
	for name, value := range config {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	answer, err := c.inner.CreateTopics(unbounded, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err != nil {
		return err
	}
	return refused(answer.Errors[topic])
}

// fresh is a client that doesn't know anything yet: a transport keeps metadata for some seconds.
func (c *client) fresh() (*kafka.Client, *kafka.Transport) {
	transport := &kafka.Transport{}
	return &kafka.Client{Addr: c.inner.Addr, Timeout: flow.Deadline, Transport: transport}, transport
}

func (c *client) metadata(topics ...string) ([]kafka.Topic, error) {
	inner, transport := c.fresh()
	defer transport.CloseIdleConnections()
	answer, err := inner.Metadata(unbounded, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, err
	}
	return answer.Topics, nil
}

func (c *client) ListTopics() ([]string, error) {
	topics, err := c.metadata()
	var names []string
	for _, topic := range topics {
		names = append(names, topic.Name)
	}
	return names, err
}

func (c *client) Partitions(name string) (int, error) {
	topics, err := c.metadata(name)
	if err != nil {
		return 0, err
	}
	return len(topics[0].Partitions), topics[0].Error
}

func (c *client) DescribeConfig(topic string) (map[string]string, error) {
	of := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	answer, err := c.inner.DescribeConfigs(unbounded, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{of}})
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, entry := range answer.Resources[0].ConfigEntries {
		all[entry.ConfigName] = entry.ConfigValue
	}
	return all, answer.Resources[0].Error
}

func (c *client) AlterConfig(topic, name, value string) error {
	resource := kafka.AlterConfigRequestResource{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		Configs: []kafka.AlterConfigRequestConfig{{Name: name, Value: value}},
	}
	answer, err := c.inner.AlterConfigs(unbounded, &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{resource}})
	if err != nil {
		return err
	}
	for _, err := range answer.Errors {
		if err != nil {
			return refused(err)
		}
	}
	return nil
}

func (c *client) CreatePartitions(topic string, total int32) error {
	wanted := []kafka.TopicPartitionsConfig{{Name: topic, Count: total}}
	answer, err := c.inner.CreatePartitions(unbounded, &kafka.CreatePartitionsRequest{Topics: wanted})
	if err != nil {
		return err
	}
	return refused(answer.Errors[topic])
}

func (c *client) DeleteTopic(topic string) error {
	answer, err := c.inner.DeleteTopics(unbounded, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return refused(answer.Errors[topic])
}

func (c *client) ListGroups() ([]string, error) {
	answer, err := c.inner.ListGroups(unbounded, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, group := range answer.Groups {
		groups = append(groups, group.GroupID)
	}
	return groups, answer.Error
}

func (c *client) DescribeGroup(group string) (string, int, error) {
	answer, err := c.inner.DescribeGroups(unbounded, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return "", 0, err
	}
	described := answer.Groups[0]
	return described.GroupState, len(described.Members), described.Error
}

func (c *client) DeleteGroup(group string) error {
	answer, err := c.inner.DeleteGroups(unbounded, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return refused(answer.Errors[group])
}

func (c *client) Produce(topic string, records []flow.Record, codec string, idempotent bool) ([]int64, error) {
	if idempotent {
		return nil, fmt.Errorf("%w: has no idempotent producer", flow.ErrCannot)
	}
	codecs := map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	batches, places := map[int32][]kafka.Record{}, map[int32][]int{}
	for at, record := range records {
		out := kafka.Record{Key: kafka.NewBytes([]byte(record.Key)), Value: kafka.NewBytes([]byte(record.Value)), Time: time.Now()}
		for _, header := range record.Headers {
			out.Headers = append(out.Headers, kafka.Header{Key: header.Key, Value: []byte(header.Value)})
		}
		if record.Timestamp != 0 {
			out.Time = time.UnixMilli(record.Timestamp)
		}
		batches[record.Partition] = append(batches[record.Partition], out)
		places[record.Partition] = append(places[record.Partition], at)
	}
	inner, transport := c.fresh()
	defer transport.CloseIdleConnections()
	offsets := make([]int64, len(records))
	for partition, batch := range batches {
		answer, err := inner.Produce(unbounded, &kafka.ProduceRequest{
			Topic: topic, Partition: int(partition), RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(batch...), Compression: codecs[codec],
		})
		if err = errors.Join(err, errorOf(answer)); err != nil {
			return nil, err
		}
		for at, place := range places[partition] {
			offsets[place] = answer.BaseOffset + int64(at)
		}
	}
	return offsets, nil
}

func errorOf(answer *kafka.ProduceResponse) error {
	if answer == nil {
		return nil
	}
	return errors.Join(answer.Error)
}

// A consumer reads partitions with a reader each, all into one channel.
type consumer struct {
	bootstrap string
	received  chan kafka.Message
	lock      sync.Mutex
	held      []int32
	group     *kafka.ConsumerGroup
	current   *kafka.Generation
	end       context.CancelFunc
	running   sync.WaitGroup
}

func (c *client) consumer() (*consumer, context.Context) {
	ctx, end := context.WithCancel(unbounded)
	return &consumer{bootstrap: c.bootstrap, received: make(chan kafka.Message, 1000), end: end}, ctx
}

func (c *consumer) read(ctx context.Context, topic string, partition int, offset int64) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{c.bootstrap}, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond, MaxBytes: 1 << 20,
	})
	defer reader.Close()
	if reader.SetOffset(offset) != nil {
		return
	}
	for {
		message, err := reader.FetchMessage(ctx)
		if err != nil {
			return
		}
		select {
		case c.received <- message:
		case <-ctx.Done():
			return
		}
	}
}

func (c *client) Assign(topic string, partition int32, position int64) (flow.Consumer, error) {
	reader, ctx := c.consumer()
	reader.running.Go(func() { reader.read(ctx, topic, int(partition), position) })
	return reader, nil
}

func (c *client) Join(group, topic string) (flow.Consumer, error) {
	member, ctx := c.consumer()
	var err error
	member.group, err = kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: []string{c.bootstrap}, Topics: []string{topic}, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: 500 * time.Millisecond, SessionTimeout: 10 * time.Second, RebalanceTimeout: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	member.running.Go(func() {
		for {
			generation, err := member.group.Next(ctx)
			if errors.Is(err, kafka.ErrGroupClosed) || ctx.Err() != nil {
				return
			}
			if err == nil {
				member.live(generation, topic)
			}
		}
	})
	return member, nil
}

// live reads what a generation assigns, until it ends.
func (c *consumer) live(generation *kafka.Generation, topic string) {
	var held []int32
	for _, assigned := range generation.Assignments[topic] {
		held = append(held, int32(assigned.ID))
		generation.Start(func(ctx context.Context) { c.read(ctx, topic, assigned.ID, assigned.Offset) })
	}
	c.hold(generation, held)
	generation.Start(func(ctx context.Context) {
		<-ctx.Done()
		c.hold(nil, nil)
	})
}

func (c *consumer) hold(generation *kafka.Generation, held []int32) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.current, c.held = generation, held
}

func (c *consumer) Poll() ([]flow.Record, error) {
	var records []flow.Record
	wait := time.After(300 * time.Millisecond)
	for {
		select {
		case message := <-c.received:
			in := flow.Record{
				Key: string(message.Key), Value: string(message.Value), Partition: int32(message.Partition),
				Timestamp: message.Time.UnixMilli(), Offset: message.Offset,
			}
			for _, header := range message.Headers {
				in.Headers = append(in.Headers, flow.Header{Key: header.Key, Value: string(header.Value)})
			}
			records = append(records, in)
			if len(c.received) == 0 {
				return records, nil
			}
		case <-wait:
			return records, nil
		}
	}
}

func (c *consumer) Held() []int32 {
	c.lock.Lock()
	defer c.lock.Unlock()
	return slices.Clone(c.held)
}

func (c *consumer) Commit(topic string, partition int32, offset int64) error {
	c.lock.Lock()
	generation := c.current
	c.lock.Unlock()
	if generation == nil {
		return errors.New("between two generations")
	}
	return generation.CommitOffsets(map[string]map[int]int64{topic: {int(partition): offset}})
}

func (c *consumer) Close() error {
	c.end()
	var err error
	if c.group != nil {
		err = c.group.Close()
	}
	c.running.Wait()
	return err
}

func (c *client) OffsetForTime(topic string, partition int32, milliseconds int64) (int64, error) {
	asked := kafka.TimeOffsetOf(int(partition), time.UnixMilli(milliseconds))
	answer, err := c.inner.ListOffsets(unbounded, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {asked}}})
	if err != nil {
		return 0, err
	}
	found := answer.Topics[topic][0]
	for offset := range found.Offsets {
		return offset, found.Error
	}
	return -1, found.Error
}

func main() { flow.Main(connect) }
