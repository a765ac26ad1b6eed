// Package flow holds the capabilities of the matrix, once for all Go clients.
//
// A client's program implements Client and calls Main. Each capability makes its own topics and groups, all named after
// the run. The process ends with 0 if the capability holds, with 3 and a line `cannot: reason` if the client doesn't
// have it, else with an error.
package flow

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Deadline bounds each wait.
const Deadline = 45 * time.Second

var (
	// ErrCannot says that the client library has no such function.
	ErrCannot = errors.New("cannot")
	// ErrExists says that a topic to be created is there.
	ErrExists = errors.New("the topic exists")
	// ErrRefused says that the broker refused an administrative request.
	ErrRefused = errors.New("refused")
)

// Header is a record's header.
type Header struct{ Key, Value string }

// Record is what is sent and received. Timestamp is in milliseconds; 0 leaves it to the client.
type Record struct {
	Key, Value string
	Headers    []Header
	Partition  int32
	Timestamp  int64
	Offset     int64
}

// Consumer reads: either what Assign names, or as a member of the group that it was made with.
type Consumer interface {
	// Poll waits up to a short while for records.
	Poll() ([]Record, error)
	// Held is the partitions assigned now.
	Held() []int32
	Commit(topic string, partition int32, offset int64) error
	Close() error
}

// Positions to read from, beside offsets.
const (
	Start int64 = -2
	End   int64 = -1
)

// Client is a client library as the flow uses it.
type Client interface {
	CreateTopic(topic string, partitions int32, config map[string]string) error
	ListTopics() ([]string, error)
	Partitions(topic string) (int, error)
	DescribeConfig(topic string) (map[string]string, error)
	AlterConfig(topic, name, value string) error
	CreatePartitions(topic string, total int32) error
	DeleteTopic(topic string) error
	ListGroups() ([]string, error)
	DescribeGroup(group string) (state string, members int, err error)
	DeleteGroup(group string) error
	// Produce sends all and waits; the offsets are in the order of the records.
	Produce(topic string, records []Record, codec string, idempotent bool) ([]int64, error)
	// Assign reads one partition from a position, Start or End.
	Assign(topic string, partition int32, position int64) (Consumer, error)
	// Join reads as a member of a group, from the start where nothing is committed.
	Join(group, topic string) (Consumer, error)
	// OffsetForTime is the first offset at or after a time; the end (or -1) if there is none.
	OffsetForTime(topic string, partition int32, milliseconds int64) (int64, error)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func expect(actual, expected any, what string) {
	if !reflect.DeepEqual(actual, expected) {
		panic(fmt.Errorf("%s: %v, expected %v", what, actual, expected))
	}
}

func waitUntil(condition func() bool, what func() string) {
	for end := time.Now().Add(Deadline); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			panic(fmt.Errorf("not so within %s: %s", Deadline, what()))
		}
	}
}

func collect(consumer Consumer, count int) []Record {
	var records []Record
	waitUntil(func() bool {
		records = append(records, must(consumer.Poll())...)
		return len(records) >= count
	}, func() string { return fmt.Sprintf("%d records, %d came", count, len(records)) })
	return records
}

func values(records []Record) []string {
	var all []string
	for _, record := range records {
		all = append(all, record.Value)
	}
	return all
}

func numbered(first, end int, partition int32) []Record {
	var all []Record
	for number := first; number < end; number++ {
		all = append(all, Record{Key: fmt.Sprintf("k%d", number), Value: strconv.Itoa(number), Partition: partition})
	}
	return all
}

func fresh(client Client, topic string, partitions int32) string {
	check(client.CreateTopic(topic, partitions, nil))
	waitUntil(func() bool { return slices.Contains(must(client.ListTopics()), topic) }, func() string { return topic + " in the list" })
	return topic
}

func createTopic(client Client, run string) {
	check(client.CreateTopic(run, 3, map[string]string{"retention.ms": "7654321"}))
	expect(must(client.Partitions(run)), 3, "partitions")
	expect(must(client.DescribeConfig(run))["retention.ms"], "7654321", "retention.ms given at creation")
	if err := client.CreateTopic(run, 3, nil); !errors.Is(err, ErrExists) {
		panic(fmt.Errorf("creating a topic twice: %v", err))
	}
}

func produce(codec string, idempotent bool) func(Client, string) {
	return func(client Client, run string) {
		topic := fresh(client, run, 2)
		var sent []Record
		for number := range 40 {
			sent = append(sent, Record{
				Key: fmt.Sprintf("key-%d", number), Value: fmt.Sprintf("value-%d %s", number, strings.Repeat("penstock ", 30)),
				Partition: int32(number % 2),
				Headers:   []Header{{"codec", codec}, {"number", strconv.Itoa(number)}},
			})
		}
		for at, offset := range must(client.Produce(topic, sent, codec, idempotent)) {
			sent[at].Offset = offset
			expect(offset, int64(at/2), "an offset that was answered")
		}
		for partition := range int32(2) {
			consumer := must(client.Assign(topic, partition, Start))
			received := collect(consumer, 20)
			check(consumer.Close())
			for at := range received {
				wanted := sent[at*2+int(partition)]
				received[at].Timestamp = 0
				expect(received[at], wanted, "a record")
			}
		}
	}
}

func consumeStart(client Client, run string) {
	topic := fresh(client, run, 1)
	must(client.Produce(topic, numbered(0, 20, 0), "none", false))
	for _, from := range []int64{Start, 15} {
		first := max(int(from), 0)
		consumer := must(client.Assign(topic, 0, from))
		expect(values(collect(consumer, 20-first)), values(numbered(first, 20, 0)), "all records in order")
		check(consumer.Close())
	}
}

func consumeEnd(client Client, run string) {
	topic := fresh(client, run, 1)
	must(client.Produce(topic, numbered(0, 5, 0), "none", false))
	consumer := must(client.Assign(topic, 0, End))
	var received []Record
	sent := 5
	for ; len(received) == 0 && sent < 200; sent++ {
		received = append(received, must(consumer.Poll())...)
		must(client.Produce(topic, numbered(sent, sent+1, 0), "none", false))
	}
	waitUntil(func() bool {
		received = append(received, must(consumer.Poll())...)
		return len(received) > 0 && received[len(received)-1].Offset == int64(sent-1)
	}, func() string { return fmt.Sprintf("records up to %d", sent-1) })
	check(consumer.Close())
	first := int(received[0].Offset)
	if first < 5 {
		panic(fmt.Errorf("from the end, offset %d was read, which was there before", first))
	}
	expect(values(received), values(numbered(first, sent, 0)), "records after the end")
}

func consumeTimestamp(client Client, run string) {
	const base = 1_700_000_000_000
	topic := fresh(client, run, 1)
	records := numbered(0, 10, 0)
	for number := range records {
		records[number].Timestamp = base + int64(number)*1000
	}
	must(client.Produce(topic, records, "none", false))
	consumer := must(client.Assign(topic, 0, Start))
	for number, record := range collect(consumer, 10) {
		expect(record.Timestamp, records[number].Timestamp, "a timestamp")
	}
	check(consumer.Close())
	for _, asked := range [][2]int64{{-1, 0}, {4000, 4}, {4001, 5}, {9000, 9}} {
		expect(must(client.OffsetForTime(topic, 0, base+asked[0])), asked[1], fmt.Sprintf("offset for base + %d ms", asked[0]))
	}
	if none := must(client.OffsetForTime(topic, 0, base+9001)); none != -1 && none != 10 {
		panic(fmt.Errorf("a time after the last record gives offset %d", none))
	}
	consumer = must(client.Assign(topic, 0, must(client.OffsetForTime(topic, 0, base+6500))))
	expect(values(collect(consumer, 3)), []string{"7", "8", "9"}, "records from a time")
	check(consumer.Close())
}

// A member polls in a goroutine of its own and notes what it holds and what it got.
type member struct {
	lock     sync.Mutex
	held     []int32
	received []Record
	err      error
	ending   chan struct{}
	ended    chan struct{}
}

func join(client Client, group, topic string) *member {
	m := &member{ending: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		consumer, err := client.Join(group, topic)
		for err == nil {
			select {
			case <-m.ending:
				err = consumer.Close()
				m.note(nil, nil, err)
				return
			default:
			}
			var records []Record
			records, err = consumer.Poll()
			m.note(records, consumer.Held(), err)
		}
	}()
	return m
}

func (m *member) note(records []Record, held []int32, err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.held, m.err = held, err
	m.received = append(m.received, records...)
}

func (m *member) seen() ([]int32, []Record) {
	m.lock.Lock()
	defer m.lock.Unlock()
	check(m.err)
	return slices.Clone(m.held), slices.Clone(m.received)
}

func (m *member) leave() {
	close(m.ending)
	<-m.ended
	check(m.err)
}

func groupOfThree(client Client, run string) {
	topic := fresh(client, run, 6)
	everyone := []*member{join(client, run, topic)}
	shares := func(members []*member, each int) {
		var shown string
		waitUntil(func() bool {
			var all []int32
			even := true
			for _, m := range members {
				held, _ := m.seen()
				all = append(all, held...)
				even = even && len(held) == each
			}
			shown = fmt.Sprint(all)
			slices.Sort(all)
			return even && slices.Equal(all, []int32{0, 1, 2, 3, 4, 5})
		}, func() string { return fmt.Sprintf("%d members with %d each: %s", len(members), each, shown) })
	}
	exchange := func(members []*member, first int) {
		var sent []Record
		for partition := range 6 {
			sent = append(sent, numbered(first+partition*10, first+partition*10+10, int32(partition))...)
		}
		must(client.Produce(topic, sent, "none", false))
		got := func() []string {
			var all []string
			for _, m := range everyone {
				_, records := m.seen()
				for _, record := range records {
					if number := must(strconv.Atoi(record.Value)); number >= first && number < first+100 {
						all = append(all, record.Value)
					}
				}
			}
			slices.Sort(all)
			return all
		}
		waitUntil(func() bool { return len(got()) >= len(sent) }, func() string { return fmt.Sprintf("%d records, %d came", len(sent), len(got())) })
		wanted := values(sent)
		slices.Sort(wanted)
		expect(got(), wanted, "each record once")
		for _, m := range members {
			held, records := m.seen()
			for _, record := range records {
				if number := must(strconv.Atoi(record.Value)); number >= first && !slices.Contains(held, record.Partition) {
					panic(fmt.Errorf("a record of partition %d went to a member that holds %v", record.Partition, held))
				}
			}
		}
	}
	shares(everyone, 6)
	exchange(everyone, 0)
	everyone = append(everyone, join(client, run, topic), join(client, run, topic))
	shares(everyone, 2)
	exchange(everyone, 100)
	everyone[0].leave()
	shares(everyone[1:], 3)
	exchange(everyone[1:], 200)
	everyone[1].leave()
	everyone[2].leave()
}

func offsetsResumed(client Client, run string) {
	topic := fresh(client, run, 1)
	must(client.Produce(topic, numbered(0, 20, 0), "none", false))
	consumer := must(client.Join(run, topic))
	expect(values(collect(consumer, 10))[:10], values(numbered(0, 10, 0)), "a group's first records")
	check(consumer.Commit(topic, 0, 10))
	check(consumer.Close())
	consumer = must(client.Join(run, topic))
	expect(values(collect(consumer, 10)), values(numbered(10, 20, 0)), "records after the committed offset")
	check(consumer.Close())
}

func adminTopics(client Client, run string) {
	for _, partitions := range []int32{1, 4} {
		topic := fresh(client, fmt.Sprintf("%s-%d", run, partitions), partitions)
		expect(must(client.Partitions(topic)), int(partitions), "partitions")
	}
}

func adminConfigs(client Client, run string) {
	topic := fresh(client, run, 1)
	expect(must(client.DescribeConfig(topic))["retention.ms"], "604800000", "retention.ms by default")
	check(client.AlterConfig(topic, "retention.ms", "123456"))
	expect(must(client.DescribeConfig(topic))["retention.ms"], "123456", "retention.ms after the change")
	if err := client.AlterConfig(topic, "retention.ms", "soon"); !errors.Is(err, ErrRefused) {
		panic(fmt.Errorf("a retention.ms of `soon`: %v", err))
	}
	expect(must(client.DescribeConfig(topic))["retention.ms"], "123456", "retention.ms after a refused change")
}

func used(client Client, run string) Consumer {
	topic := fresh(client, run, 1)
	must(client.Produce(topic, numbered(0, 1, 0), "none", false))
	consumer := must(client.Join(run, topic))
	collect(consumer, 1)
	check(consumer.Commit(topic, 0, 1))
	return consumer
}

func adminGroups(client Client, run string) {
	consumer := used(client, run)
	expect(slices.Contains(must(client.ListGroups()), run), true, "listed")
	state, members, err := client.DescribeGroup(run)
	check(err)
	expect([]any{state, members}, []any{"Stable", 1}, "the group while it is used")
	check(consumer.Close())
	waitUntil(func() bool {
		state, members, err = client.DescribeGroup(run)
		return err == nil && state == "Empty" && members == 0
	}, func() string { return fmt.Sprint(state, members, err) })
}

func adminDeleteGroup(client Client, run string) {
	consumer := used(client, run)
	if err := client.DeleteGroup(run); !errors.Is(err, ErrRefused) || !strings.Contains(strings.ToLower(err.Error()), "not empty") {
		panic(fmt.Errorf("deleting a used group: %v", err))
	}
	check(consumer.Close())
	check(client.DeleteGroup(run))
	expect(slices.Contains(must(client.ListGroups()), run), false, "listed after its deletion")
}

func adminPartitions(client Client, run string) {
	topic := fresh(client, run, 1)
	check(client.CreatePartitions(topic, 3))
	waitUntil(func() bool { return must(client.Partitions(topic)) == 3 }, func() string { return "three partitions" })
	expect(must(client.Produce(topic, numbered(0, 1, 2), "none", false)), []int64{0}, "the offset in the new partition")
	if err := client.CreatePartitions(topic, 2); !errors.Is(err, ErrRefused) {
		panic(fmt.Errorf("taking partitions away: %v", err))
	}
}

func adminDelete(client Client, run string) {
	topic := fresh(client, run, 1)
	check(client.DeleteTopic(topic))
	waitUntil(func() bool { return !slices.Contains(must(client.ListTopics()), topic) }, func() string { return topic + " is still listed" })
}

var capabilities = map[string]func(Client, string){
	"create-topic": createTopic,
	"produce-none": produce("none", false), "produce-gzip": produce("gzip", false), "produce-snappy": produce("snappy", false),
	"produce-lz4": produce("lz4", false), "produce-zstd": produce("zstd", false), "idempotent": produce("none", true),
	"consume-start": consumeStart, "consume-end": consumeEnd, "consume-timestamp": consumeTimestamp,
	"group-of-three": groupOfThree, "offsets-resumed": offsetsResumed,
	"admin-topics": adminTopics, "admin-configs": adminConfigs, "admin-groups": adminGroups,
	"admin-delete-group": adminDeleteGroup, "admin-partitions": adminPartitions, "admin-delete": adminDelete,
}

// Main runs one capability. Arguments: BOOTSTRAP CAPABILITY RUN.
func Main(connect func(bootstrap string) (Client, error)) {
	client, err := connect(os.Args[1])
	check(err)
	defer func() {
		if failure := recover(); failure != nil {
			err, isError := failure.(error)
			if isError && errors.Is(err, ErrCannot) {
				fmt.Println(err)
				os.Exit(3)
			}
			fmt.Fprintln(os.Stderr, failure)
			os.Exit(1)
		}
	}()
	capabilities[os.Args[2]](client, os.Args[3])
}
