import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;

import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Counts words with Kafka Streams, at least once, through a repartition topic and a store with a changelog;
 * matrix/streams.py starts it.
 *
 * Arguments: BOOTSTRAP APPLICATION LINES COUNTS STATE-DIRECTORY: LINES is the topic that is read, COUNTS gets (word, count) at
 * each change. SIGTERM ends it cleanly. Standard output: `state STATE` at each change, `restored CHANGELOG-PARTITION RECORDS` of
 * each store that was filled from its changelog, `error WHAT`, and `closed BOOLEAN`, whether it could end in time.
 */
public final class StreamsClient {
    private StreamsClient() {
    }

    public static void main(String[] arguments) {
        var streams = new KafkaStreams(topology(arguments[2], arguments[3]), config(arguments[0], arguments[1], arguments[4]));
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        streams.setGlobalStateRestoreListener(new RestoreListener());
        streams.setUncaughtExceptionHandler(failure -> {
            System.out.println("error " + failure);
            failure.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() ->
            System.out.println("closed " + streams.close(Duration.ofSeconds(20)))));
        streams.start();
    }

    private static Topology topology(String lines, String counts) {
        var builder = new StreamsBuilder();
        var text = Serdes.String();
        builder.stream(lines, Consumed.with(text, text))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with("words", text, text))
            .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("counts").withKeySerde(text).withValueSerde(Serdes.Long()))
            .toStream()
            .mapValues(String::valueOf)
            .to(counts, Produced.with(text, text));
        return builder.build();
    }

    private static Properties config(String bootstrap, String application, String stateDirectory) {
        var config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        config.put(StreamsConfig.STATE_DIR_CONFIG, stateDirectory);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        // Often enough to be seen by a test: by default each change after ten megabytes or 30 s, and records are purged as seldom.
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200);
        config.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 200);
        // So that one that was killed is soon out of the group; Streams doesn't leave it when it is closed, either.
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6000);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 1000);
        return config;
    }

    private static final class RestoreListener implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition changelog, String store, long from, long end) {
        }

        @Override
        public void onBatchRestored(TopicPartition changelog, String store, long end, long count) {
        }

        @Override
        public void onRestoreEnd(TopicPartition changelog, String store, long count) {
            System.out.println("restored " + changelog + " " + count);
        }
    }
}
