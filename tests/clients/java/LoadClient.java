import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A producer or a consumer with default settings that goes on until it is told to end; tests/cluster/roll.py starts it.
 *
 * Arguments: BOOTSTRAP produce TOPIC OUT RATE, or BOOTSTRAP consume TOPIC OUT GROUP. Standard input: a number is the phase that
 * begins; `end`, or its end, ends the client, a producer when all is delivered. OUT gets a line a record: of a producer
 * `NUMBER PARTITION OFFSET PHASE MILLISECONDS`, of a consumer `NUMBER PARTITION OFFSET`. Standard output gets `sent COUNT` of a
 * producer, `error WHAT` for each error that an application sees, `assigned WHAT` for each assignment.
 */
public final class LoadClient {
    private static volatile int phase;
    private static volatile boolean ending;

    private LoadClient() {
    }

    public static void main(String[] arguments) throws Exception {
        Thread listener = new Thread(LoadClient::listen);
        listener.setDaemon(true);
        listener.start();
        try (BufferedWriter out = Files.newBufferedWriter(Path.of(arguments[3]))) {
            if (arguments[1].equals("produce")) {
                produce(arguments[0], arguments[2], out, Integer.parseInt(arguments[4]));
            } else {
                consume(arguments[0], arguments[2], out, arguments[4]);
            }
        }
    }

    private static void listen() {
        try (var lines = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line = lines.readLine(); line != null && !line.equals("end"); line = lines.readLine()) {
                phase = Integer.parseInt(line);
            }
        } catch (IOException failure) {
            failure.printStackTrace();
        }
        ending = true;
    }

    private static void error(Throwable failure) {
        System.out.println("error " + failure.getClass().getSimpleName() + ": " + failure.getMessage());
    }

    private static void produce(String bootstrap, String topic, BufferedWriter out, int rate) throws Exception {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        long begun = System.nanoTime();
        String filler = " " + ".".repeat(100);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            long number = 0;
            for (; !ending; number++) {
                long due = begun + number * 1_000_000_000L / rate;
                while (System.nanoTime() < due) Thread.sleep(1);
                long sentNumber = number;
                long sentAt = System.nanoTime();
                int sentIn = phase;
                producer.send(new ProducerRecord<>(topic, number + filler), (told, failure) -> {
                    if (failure != null) {
                        error(failure);
                        return;
                    }
                    try {
                        out.write(sentNumber + " " + told.partition() + " " + told.offset() + " " + sentIn + " "
                            + (System.nanoTime() - sentAt) / 1_000_000 + "\n");
                    } catch (IOException trouble) {
                        error(trouble);
                    }
                });
            }
            System.out.println("sent " + number);
        }
    }

    private static void consume(String bootstrap, String topic, BufferedWriter out, String group) throws Exception {
        // A topic that nobody wrote to yet is read from its start by whoever comes when.
        Map<String, Object> config = new HashMap<>(
            Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest"));
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    System.out.println("assigned " + partitions);
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                }

                @Override
                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    System.out.println("error partitions lost: " + partitions);
                }
            });
            while (!ending) {
                try {
                    for (var record : consumer.poll(Duration.ofMillis(200))) {
                        String value = record.value();
                        out.write(value.substring(0, value.indexOf(' ')) + " " + record.partition() + " " + record.offset() + "\n");
                    }
                    out.flush();
                } catch (RuntimeException failure) {
                    error(failure);
                }
            }
        }
    }
}
