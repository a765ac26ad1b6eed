import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A store over one compacted partition, which schema registries keep their schemas in; matrix/schemas.py starts it.
 *
 * At start: the topic is made unless it is there, and has to have one partition and be compacted. It is read from its beginning,
 * and the store is ready when a no-op record, written at start, has been read. Each write is awaited in the same way.
 *
 * Arguments: BOOTSTRAP TOPIC. Standard input: `put KEY VALUE` or `delete KEY`, a line each. Standard output: `loaded KEY VALUE` of each
 * entry when it is ready, `stored KEY VALUE` of each at the end.
 */
public final class SchemaStoreClient implements AutoCloseable {
    private static final long TIMEOUT_SECONDS = 30;
    private static final String NOOP = "NOOP";

    private final TopicPartition partition;
    private final KafkaProducer<byte[], byte[]> producer;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Map<String, String> entries = new TreeMap<>();
    private final Thread reader = new Thread(this::read, "reader");
    private long readUpTo = -1;
    private RuntimeException failure;

    private SchemaStoreClient(String bootstrap, String topic) throws Exception {
        partition = new TopicPartition(topic, 0);
        makeTopic(bootstrap, topic);
        Map<String, Object> writing = Map.of("bootstrap.servers", bootstrap, "acks", "-1", "retries", 0, "enable.idempotence", false);
        producer = new KafkaProducer<>(writing, new ByteArraySerializer(), new ByteArraySerializer());
        Map<String, Object> reading = Map.of("bootstrap.servers", bootstrap, "group.id", "store-" + topic,
            "enable.auto.commit", false, "auto.offset.reset", "earliest");
        consumer = new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.assign(List.of(partition));
        consumer.seekToBeginning(List.of(partition));
        reader.setDaemon(true);
        reader.start();
        write(NOOP, null);
    }

    public static void main(String[] arguments) throws Exception {
        try (var store = new SchemaStoreClient(arguments[0], arguments[1]);
             var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            store.print("loaded");
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] words = line.split(" ", 3);
                switch (words[0]) {
                    case "put" -> store.write(words[1], words[2]);
                    case "delete" -> store.write(words[1], null);
                    default -> throw new IllegalArgumentException(line);
                }
            }
            store.print("stored");
        }
    }

    private static void makeTopic(String bootstrap, String topic) throws Exception {
        try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            try {
                var wanted = new NewTopic(topic, 1, (short) 1).configs(Map.of("cleanup.policy", "compact"));
                admin.createTopics(List.of(wanted)).all().get(TIMEOUT_SECONDS, TimeUnit.SECONDS);
            } catch (ExecutionException refused) {
                if (!(refused.getCause() instanceof TopicExistsException)) throw refused;
            }
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get(TIMEOUT_SECONDS, TimeUnit.SECONDS).get(topic);
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var config = admin.describeConfigs(List.of(resource)).all().get(TIMEOUT_SECONDS, TimeUnit.SECONDS).get(resource);
            String policy = config.get("cleanup.policy").value();
            if (described.partitions().size() != 1 || !policy.equals("compact")) {
                throw new IllegalStateException(described.partitions().size() + " partitions, cleanup.policy " + policy);
            }
        }
    }

    private void write(String key, String value) throws Exception {
        var record = new ProducerRecord<>(partition.topic(), partition.partition(), bytes(key), value == null ? null : bytes(value));
        awaitRead(producer.send(record).get(TIMEOUT_SECONDS, TimeUnit.SECONDS).offset());
    }

    private synchronized void awaitRead(long offset) throws InterruptedException, TimeoutException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_SECONDS);
        while (readUpTo < offset) {
            if (failure != null) throw failure;
            long left = deadline - System.nanoTime();
            if (left <= 0) throw new TimeoutException("read up to offset " + readUpTo + ", not to " + offset);
            TimeUnit.NANOSECONDS.timedWait(this, left);
        }
    }

    private void read() {
        try {
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) apply(record.offset(), record.key(), record.value());
            }
        } catch (WakeupException closing) {
            consumer.close();
        } catch (RuntimeException broken) {
            synchronized (this) {
                failure = broken;
                notifyAll();
            }
        }
    }

    private synchronized void apply(long offset, byte[] keyBytes, byte[] value) {
        String key = new String(keyBytes, StandardCharsets.UTF_8);
        if (offset <= readUpTo) throw new IllegalStateException("offset " + offset + " behind " + readUpTo);
        if (value == null) {
            entries.remove(key);
        } else {
            entries.put(key, new String(value, StandardCharsets.UTF_8));
        }
        readUpTo = offset;
        notifyAll();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private synchronized void print(String word) {
        entries.forEach((key, value) -> System.out.println(word + " " + key + " " + value));
    }

    @Override
    public void close() throws Exception {
        consumer.wakeup();
        reader.join(TimeUnit.SECONDS.toMillis(TIMEOUT_SECONDS));
        producer.close();
    }
}
