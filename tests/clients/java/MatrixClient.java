import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Apache Kafka's Java clients. Arguments: BOOTSTRAP CAPABILITY RUN; ends with 0 if the capability holds. Each capability
 * makes its own topics and groups, all named after the run.
 */
public final class MatrixClient {
    private static final Duration DEADLINE = Duration.ofSeconds(45);

    private final String bootstrap;
    private final String run;
    private final Admin admin;

    private MatrixClient(String bootstrap, String run) {
        this.bootstrap = bootstrap;
        this.run = run;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] arguments) throws Exception {
        MatrixClient client = new MatrixClient(arguments[0], arguments[2]);
        try {
            client.capability(arguments[1]);
        } catch (Throwable failure) {
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        client.admin.close(Duration.ofSeconds(5));
    }

    private void capability(String name) throws Exception {
        switch (name) {
            case "create-topic" -> createTopic();
            case "produce-none", "produce-gzip", "produce-snappy", "produce-lz4", "produce-zstd" ->
                produce(name.substring("produce-".length()), false);
            case "idempotent" -> produce("none", true);
            case "consume-start" -> consumeStart();
            case "consume-end" -> consumeEnd();
            case "consume-timestamp" -> consumeTimestamp();
            case "group-of-three" -> groupOfThree();
            case "offsets-resumed" -> offsetsResumed();
            case "admin-topics" -> adminTopics();
            case "admin-configs" -> adminConfigs();
            case "admin-groups" -> adminGroups();
            case "admin-delete-group" -> adminDeleteGroup();
            case "admin-partitions" -> adminPartitions();
            case "admin-delete" -> adminDelete();
            default -> throw new IllegalArgumentException("unknown capability " + name);
        }
    }

    private static void waitUntil(Supplier<Boolean> condition, Supplier<String> what) throws InterruptedException {
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (!condition.get()) {
            if (System.nanoTime() > end) throw new AssertionError("not so within " + DEADLINE + ": " + what.get());
            Thread.sleep(50);
        }
    }

    private static void expect(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) throw new AssertionError(what + ": " + actual + ", expected " + expected);
    }

    private static <T> T wait(KafkaFuture<T> future) {
        try {
            return future.get(DEADLINE.toSeconds(), TimeUnit.SECONDS);
        } catch (ExecutionException failure) {
            if (failure.getCause() instanceof RuntimeException cause) throw cause;
            throw new IllegalStateException(failure);
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
    }

    private static void refused(Class<? extends Exception> expected, KafkaFuture<?> future) {
        try {
            wait(future);
        } catch (RuntimeException refusal) {
            expect(refusal.getClass(), expected, "refusal: " + refusal.getMessage());
            return;
        }
        throw new AssertionError("was accepted; expected " + expected);
    }

    private KafkaFuture<Void> create(String topic, int partitions, Map<String, String> config) {
        return admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(config))).all();
    }

    private String fresh(String topic, int partitions) throws InterruptedException {
        wait(create(topic, partitions, Map.of()));
        waitUntil(() -> wait(admin.listTopics().names()).contains(topic), () -> topic + " in the list");
        return topic;
    }

    private int partitions(String topic) {
        return wait(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
    }

    private String config(String topic, String name) {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return wait(admin.describeConfigs(List.of(resource)).all()).get(resource).get(name).value();
    }

    private KafkaFuture<Void> alter(String topic, String name, String value) {
        AlterConfigOp operation = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.incrementalAlterConfigs(Map.of(resource, List.of(operation))).all();
    }

    private List<RecordMetadata> send(List<ProducerRecord<String, String>> records, Map<String, Object> options) throws Exception {
        Map<String, Object> config = new HashMap<>(options);
        config.put("bootstrap.servers", bootstrap);
        config.put("linger.ms", 20);
        config.putIfAbsent("enable.idempotence", false);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = records.stream().map(producer::send).toList();
            List<RecordMetadata> answers = new ArrayList<>();
            for (Future<RecordMetadata> answer : sent) answers.add(answer.get(DEADLINE.toSeconds(), TimeUnit.SECONDS));
            return answers;
        }
    }

    private List<ProducerRecord<String, String>> numbered(int first, int end, int partition) {
        return IntStream.range(first, end)
            .mapToObj(number -> new ProducerRecord<>(run, partition, "k" + number, Integer.toString(number)))
            .toList();
    }

    private static List<String> numbers(int first, int end) {
        return IntStream.range(first, end).mapToObj(Integer::toString).toList();
    }

    private KafkaConsumer<String, String> consumer(String group) {
        Map<String, Object> config = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "enable.auto.commit", false, "auto.offset.reset", "earliest",
            "session.timeout.ms", 10000, "heartbeat.interval.ms", 500, "fetch.max.wait.ms", 100));
        if (group != null) config.put("group.id", group);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    private static List<ConsumerRecord<String, String>> collect(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        waitUntil(() -> {
            consumer.poll(Duration.ofMillis(300)).forEach(records::add);
            return records.size() >= count;
        }, () -> count + " records, " + records.size() + " came");
        return records;
    }

    private static List<String> values(Collection<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    private void createTopic() {
        wait(create(run, 3, Map.of("retention.ms", "7654321")));
        expect(partitions(run), 3, "partitions");
        expect(config(run, "retention.ms"), "7654321", "retention.ms given at creation");
        refused(TopicExistsException.class, create(run, 3, Map.of()));
    }

    private void produce(String codec, boolean idempotent) throws Exception {
        fresh(run, 2);
        List<ProducerRecord<String, String>> sent = new ArrayList<>();
        for (int number = 0; number < 40; number++) {
            var record = new ProducerRecord<>(run, number % 2, "key-" + number, "value-" + number + " " + "penstock ".repeat(30));
            record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8));
            record.headers().add("number", Integer.toString(number).getBytes(StandardCharsets.UTF_8));
            sent.add(record);
        }
        List<RecordMetadata> answers = send(sent, Map.of("compression.type", codec, "enable.idempotence", idempotent));
        for (int at = 0; at < 40; at++) expect(answers.get(at).offset(), at / 2L, "an offset that was answered");
        try (var consumer = consumer(null)) {
            consumer.assign(List.of(new TopicPartition(run, 0), new TopicPartition(run, 1)));
            consumer.seekToBeginning(consumer.assignment());
            Map<String, ConsumerRecord<String, String>> received = new TreeMap<>();
            for (var record : collect(consumer, 40)) received.put(record.partition() + "@" + record.offset(), record);
            for (int at = 0; at < 40; at++) {
                var record = received.get(at % 2 + "@" + at / 2);
                expect(record.key(), sent.get(at).key(), "a key");
                expect(record.value(), sent.get(at).value(), "a value");
                expect(record.headers(), sent.get(at).headers(), "headers");
            }
        }
    }

    private void consumeStart() throws Exception {
        fresh(run, 1);
        send(numbered(0, 20, 0), Map.of());
        TopicPartition partition = new TopicPartition(run, 0);
        try (var consumer = consumer(null)) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            expect(values(collect(consumer, 20)), numbers(0, 20), "all records in order");
            consumer.seek(partition, 15);
            expect(values(collect(consumer, 5)), numbers(15, 20), "from offset 15");
        }
    }

    private void consumeEnd() throws Exception {
        fresh(run, 1);
        send(numbered(0, 5, 0), Map.of());
        TopicPartition partition = new TopicPartition(run, 0);
        try (var consumer = consumer(null)) {
            consumer.assign(List.of(partition));
            consumer.seekToEnd(List.of(partition));
            expect(consumer.position(partition), 5L, "the end");
            send(numbered(5, 8, 0), Map.of());
            expect(values(collect(consumer, 3)), numbers(5, 8), "records after the end");
        }
    }

    private void consumeTimestamp() throws Exception {
        long base = 1_700_000_000_000L;
        fresh(run, 1);
        send(IntStream.range(0, 10)
            .mapToObj(number -> new ProducerRecord<>(run, 0, base + number * 1000L, "k", Integer.toString(number)))
            .toList(), Map.of());
        TopicPartition partition = new TopicPartition(run, 0);
        try (var consumer = consumer(null)) {
            for (long[] asked : new long[][] {{-1, 0}, {4000, 4}, {4001, 5}, {9000, 9}, {9001, -1}}) {
                var found = consumer.offsetsForTimes(Map.of(partition, base + asked[0])).get(partition);
                expect(found == null ? -1L : found.offset(), asked[1], "offset for base + " + asked[0]);
            }
            consumer.assign(List.of(partition));
            consumer.seek(partition, consumer.offsetsForTimes(Map.of(partition, base + 6500)).get(partition).offset());
            var received = collect(consumer, 3);
            expect(values(received), numbers(7, 10), "records from a time");
            expect(received.get(0).timestamp(), base + 7000, "a timestamp");
        }
    }

    /** A member polls in a thread of its own; it notes what it holds and what it got. */
    private final class Member extends Thread {
        private volatile Set<Integer> held = Set.of();
        private volatile boolean ending;
        private volatile Throwable failure;
        private final List<ConsumerRecord<String, String>> received = new ArrayList<>();

        Member() {
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try (var consumer = consumer(MatrixClient.this.run)) {
                consumer.subscribe(List.of(MatrixClient.this.run));
                while (!ending) {
                    for (var record : consumer.poll(Duration.ofMillis(200))) {
                        synchronized (received) {
                            received.add(record);
                        }
                    }
                    held = consumer.assignment().stream().map(TopicPartition::partition).collect(Collectors.toSet());
                }
            } catch (Throwable error) {
                failure = error;
            }
        }

        List<ConsumerRecord<String, String>> got(int first) {
            if (failure != null) throw new IllegalStateException(failure);
            synchronized (received) {
                return received.stream()
                    .filter(record -> Integer.parseInt(record.value()) >= first && Integer.parseInt(record.value()) < first + 100)
                    .toList();
            }
        }

        void leave() throws InterruptedException {
            ending = true;
            join(DEADLINE.toMillis());
            expect(isAlive(), false, "a member that should have left is there");
        }
    }

    private void shares(List<Member> members, int each) throws InterruptedException {
        waitUntil(() -> {
            List<Integer> all = members.stream().flatMap(member -> member.held.stream()).sorted().toList();
            return all.equals(List.of(0, 1, 2, 3, 4, 5)) && members.stream().allMatch(member -> member.held.size() == each);
        }, () -> each + " for each: " + members.stream().map(member -> member.held + " " + member.failure).toList());
    }

    private void exchange(List<Member> everyone, List<Member> members, int first) throws Exception {
        List<ProducerRecord<String, String>> sent = new ArrayList<>();
        for (int partition = 0; partition < 6; partition++) {
            sent.addAll(numbered(first + partition * 10, first + partition * 10 + 10, partition));
        }
        send(sent, Map.of());
        Supplier<List<String>> got = () ->
            everyone.stream().flatMap(member -> values(member.got(first)).stream()).sorted().toList();
        waitUntil(() -> got.get().size() >= sent.size(), () -> sent.size() + " records, " + got.get().size() + " came");
        expect(got.get(), sent.stream().map(ProducerRecord::value).sorted().toList(), "each record once");
        for (Member member : members) {
            Set<Integer> strangers = new TreeSet<>(member.got(first).stream().map(ConsumerRecord::partition).toList());
            strangers.removeAll(member.held);
            expect(strangers, Set.of(), "partitions that a member does not hold");
        }
    }

    private void groupOfThree() throws Exception {
        fresh(run, 6);
        List<Member> everyone = new ArrayList<>(List.of(new Member()));
        shares(everyone, 6);
        exchange(everyone, everyone, 0);
        everyone.add(new Member());
        everyone.add(new Member());
        shares(everyone, 2);
        exchange(everyone, everyone, 100);
        everyone.get(0).leave();
        List<Member> remaining = everyone.subList(1, 3);
        shares(remaining, 3);
        exchange(everyone, remaining, 200);
        for (Member member : remaining) member.leave();
    }

    private void offsetsResumed() throws Exception {
        fresh(run, 1);
        send(numbered(0, 20, 0), Map.of());
        try (var consumer = consumer(run)) {
            consumer.subscribe(List.of(run));
            expect(values(collect(consumer, 10)).subList(0, 10), numbers(0, 10), "a group's first records");
            consumer.commitSync(Map.of(new TopicPartition(run, 0), new OffsetAndMetadata(10, "half")));
        }
        try (var consumer = consumer(run)) {
            consumer.subscribe(List.of(run));
            expect(values(collect(consumer, 10)), numbers(10, 20), "records after the committed offset");
            TopicPartition partition = new TopicPartition(run, 0);
            expect(consumer.committed(Set.of(partition)).get(partition).metadata(), "half", "metadata of the commit");
        }
    }

    private void adminTopics() throws Exception {
        for (int partitions : new int[] {1, 4}) expect(partitions(fresh(run + "-" + partitions, partitions)), partitions, "partitions");
        // How many agents there are, if there are several.
        int agents = Integer.parseInt(System.getenv().getOrDefault("PENSTOCK_MATRIX_AGENTS", "1"));
        expect(wait(admin.describeCluster().nodes()).size(), agents, "nodes");
    }

    private void adminConfigs() throws Exception {
        fresh(run, 1);
        expect(config(run, "retention.ms"), "604800000", "retention.ms by default");
        wait(alter(run, "retention.ms", "123456"));
        expect(config(run, "retention.ms"), "123456", "retention.ms after the change");
        refused(InvalidConfigurationException.class, alter(run, "retention.ms", "soon"));
        expect(config(run, "retention.ms"), "123456", "retention.ms after a refused change");
    }

    private KafkaConsumer<String, String> used() throws Exception {
        fresh(run, 1);
        send(numbered(0, 1, 0), Map.of());
        var consumer = consumer(run);
        consumer.subscribe(List.of(run));
        collect(consumer, 1);
        consumer.commitSync();
        return consumer;
    }

    private boolean listed() {
        return wait(admin.listGroups().all()).stream().anyMatch(group -> group.groupId().equals(run));
    }

    private String describeGroup() {
        var group = wait(admin.describeConsumerGroups(List.of(run)).all()).get(run);
        return group.groupState() + " " + group.members().size();
    }

    private void adminGroups() throws Exception {
        try (var consumer = used()) {
            expect(listed(), true, "listed");
            expect(describeGroup(), "Stable 1", "the group while it is used");
        }
        waitUntil(() -> describeGroup().equals("Empty 0"), this::describeGroup);
    }

    private void adminDeleteGroup() throws Exception {
        try (var consumer = used()) {
            refused(GroupNotEmptyException.class, admin.deleteConsumerGroups(List.of(run)).all());
        }
        wait(admin.deleteConsumerGroups(List.of(run)).all());
        expect(listed(), false, "listed after its deletion");
    }

    private void adminPartitions() throws Exception {
        fresh(run, 1);
        wait(admin.createPartitions(Map.of(run, NewPartitions.increaseTo(3))).all());
        waitUntil(() -> partitions(run) == 3, () -> partitions(run) + " partitions");
        expect(send(numbered(0, 1, 2), Map.of()).get(0).offset(), 0L, "the offset in the new partition");
        refused(InvalidPartitionsException.class, admin.createPartitions(Map.of(run, NewPartitions.increaseTo(2))).all());
    }

    private void adminDelete() throws Exception {
        fresh(run, 1);
        wait(admin.deleteTopics(List.of(run)).all());
        waitUntil(() -> !wait(admin.listTopics().names()).contains(run), () -> run + " is still listed");
        refused(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(run)).all());
    }
}
