// sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"penstock/tests/clients/go/flow"
)

type client struct {
	brokers []string
	admin   sarama.ClusterAdmin
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return config
}

func connect(bootstrap string) (flow.Client, error) {
	brokers := []string{bootstrap}
	admin, err := sarama.NewClusterAdmin(brokers, config())
	return &client{brokers, admin}, err
}

func refused(err error) error {
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return flow.ErrExists
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", flow.ErrRefused, err)
}

func (c *client) CreateTopic(topic string, partitions int32, config map[string]string) error {
	entries := map[string]*string{}
	for name, value := range config {
		entries[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}
	return refused(c.admin.CreateTopic(topic, detail, false))
}

func (c *client) ListTopics() ([]string, error) {
	topics, err := c.admin.ListTopics()
	var names []string
	for name := range topics {
		names = append(names, name)
	}
	return names, err
}

func (c *client) Partitions(topic string) (int, error) {
	topics, err := c.admin.DescribeTopics([]string{topic})
	if err != nil {
		return 0, err
	}
	return len(topics[0].Partitions), nil
}

func (c *client) DescribeConfig(topic string) (map[string]string, error) {
	entries, err := c.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	all := map[string]string{}
	for _, entry := range entries {
		all[entry.Name] = entry.Value
	}
	return all, err
}

func (c *client) AlterConfig(topic, name, value string) error {
	entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{name: entry}
	return refused(c.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false))
}

func (c *client) CreatePartitions(topic string, total int32) error {
	return refused(c.admin.CreatePartitions(topic, total, nil, false))
}

func (c *client) DeleteTopic(topic string) error { return refused(c.admin.DeleteTopic(topic)) }

func (c *client) ListGroups() ([]string, error) {
	groups, err := c.admin.ListConsumerGroups()
	var names []string
	for name := range groups {
		names = append(names, name)
	}
	return names, err
}

func (c *client) DescribeGroup(group string) (string, int, error) {
	groups, err := c.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return "", 0, err
	}
	if groups[0].Err != sarama.ErrNoError {
		return "", 0, groups[0].Err
	}
	return groups[0].State, len(groups[0].Members), nil
}

func (c *client) DeleteGroup(group string) error { return refused(c.admin.DeleteConsumerGroup(group)) }

func (c *client) Produce(topic string, records []flow.Record, codec string, idempotent bool) ([]int64, error) {
	config := config()
	config.Producer.Compression = map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[codec]
	config.Producer.Idempotent = idempotent
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(c.brokers, config)
	if err != nil {
		return nil, err
	}
	var sent []*sarama.ProducerMessage
	for _, record := range records {
		out := &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(record.Key), Value: sarama.StringEncoder(record.Value), Partition: record.Partition,
		}
		for _, header := range record.Headers {
			out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: []byte(header.Value)})
		}
		if record.Timestamp != 0 {
			out.Timestamp = time.UnixMilli(record.Timestamp)
		}
		sent = append(sent, out)
	}
	if err := errors.Join(producer.SendMessages(sent), producer.Close()); err != nil {
		return nil, err
	}
	var offsets []int64
	for _, message := range sent {
		offsets = append(offsets, message.Offset)
	}
	return offsets, nil
}

func record(message *sarama.ConsumerMessage) flow.Record {
	in := flow.Record{
		Key: string(message.Key), Value: string(message.Value), Partition: message.Partition,
		Timestamp: message.Timestamp.UnixMilli(), Offset: message.Offset,
	}
	for _, header := range message.Headers {
		in.Headers = append(in.Headers, flow.Header{Key: string(header.Key), Value: string(header.Value)})
	}
	return in
}

// What comes on a channel for a short while.
func drain(messages <-chan *sarama.ConsumerMessage, failures <-chan error) ([]flow.Record, error) {
	var records []flow.Record
	wait := time.After(300 * time.Millisecond)
	for {
		select {
		case message := <-messages:
			if message != nil {
				records = append(records, record(message))
			}
		case err := <-failures:
			return records, err
		case <-wait:
			return records, nil
		}
	}
}

type assigned struct {
	consumer  sarama.Consumer
	partition sarama.PartitionConsumer
	failures  chan error
}

func (c *client) Assign(topic string, partition int32, position int64) (flow.Consumer, error) {
	consumer, err := sarama.NewConsumer(c.brokers, config())
	if err != nil {
		return nil, err
	}
	// sarama's marks of the ends are flow's: -2 and -1.
	reader, err := consumer.ConsumePartition(topic, partition, position)
	if err != nil {
		return nil, err
	}
	failures := make(chan error)
	go func() {
		for failed := range reader.Errors() {
			failures <- failed
		}
	}()
	return &assigned{consumer, reader, failures}, nil
}

func (a *assigned) Poll() ([]flow.Record, error)      { return drain(a.partition.Messages(), a.failures) }
func (a *assigned) Held() []int32                     { return nil }
func (a *assigned) Commit(string, int32, int64) error { return errors.New("not in a group") }
func (a *assigned) Close() error                      { return errors.Join(a.partition.Close(), a.consumer.Close()) }

type member struct {
	group    sarama.ConsumerGroup
	messages chan *sarama.ConsumerMessage
	cancel   context.CancelFunc
	ended    chan struct{}
	failures chan error

	lock    sync.Mutex
	session sarama.ConsumerGroupSession
	topic   string
}

func (c *client) Join(group, topic string) (flow.Consumer, error) {
	inner, err := sarama.NewConsumerGroup(c.brokers, group, config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{
		group: inner, messages: make(chan *sarama.ConsumerMessage), cancel: cancel, ended: make(chan struct{}),
		failures: make(chan error, 8), topic: topic,
	}
	go func() {
		defer close(m.ended)
		for ctx.Err() == nil {
			if err := inner.Consume(ctx, []string{topic}, m); err != nil {
				m.failures <- err
				return
			}
		}
	}()
	go func() {
		for failed := range inner.Errors() {
			m.failures <- failed
		}
	}()
	return m, nil
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = nil
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case m.messages <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) Poll() ([]flow.Record, error) {
	records, err := drain(m.messages, m.failures)
	m.lock.Lock()
	defer m.lock.Unlock()
	// sarama restarts its readers in each generation from what is committed.
	if m.session != nil && err == nil {
		for _, record := range records {
			m.session.MarkOffset(m.topic, record.Partition, record.Offset+1, "")
		}
	}
	return records, err
}

func (m *member) Held() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return nil
	}
	return m.session.Claims()[m.topic]
}

func (m *member) Commit(topic string, partition int32, offset int64) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return errors.New("no session to commit in")
	}
	m.session.ResetOffset(topic, partition, offset, "")
	m.session.Commit()
	return nil
}

func (m *member) Close() error {
	m.cancel()
	<-m.ended
	return m.group.Close()
}

func (c *client) OffsetForTime(topic string, partition int32, milliseconds int64) (int64, error) {
	inner, err := sarama.NewClient(c.brokers, config())
	if err != nil {
		return 0, err
	}
	offset, err := inner.GetOffset(topic, partition, milliseconds)
	return offset, errors.Join(err, inner.Close())
}

func main() { flow.Main(connect) }
