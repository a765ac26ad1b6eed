import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.zip.CRC32C;

import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecords.RecordFilter;
import org.apache.kafka.common.record.MemoryRecords.RecordFilter.BatchRetention;
import org.apache.kafka.common.record.MemoryRecords.RecordFilter.BatchRetentionResult;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.MutableRecordBatch;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.BufferSupplier;

/**
 * Writes filter-kafka-4.1.jsonl: batches, and what Apache Kafka's MemoryRecords.filterTo makes of each when it keeps the
 * records of some offsets. One JSON object a line: name, input (a batch, hexadecimal), keep (offsets), retention (Kafka's
 * BatchRetention), now, delete_retention_ms, output (hexadecimal; empty if nothing is left).
 *
 * Needs Java 17 and the jars of Apache Kafka 4.1.1: kafka-clients, slf4j-api, zstd-jni, lz4-java and snappy-java, from a
 * distribution's libs folder or from Maven Central (org.apache.kafka:kafka-clients:4.1.1 and what it depends on). In
 * this folder:
 *
 *     java -cp "$KAFKA_LIBS/*" FilterGolden.java > filter-kafka-4.1.jsonl
 *
 * The file is Kafka's word: it is made anew only to add cases.
 */
public class FilterGolden {
    static final long NOW = 1_700_000_100_000L;
    static final long DAY = 86_400_000L;
    static final long FIRST = 1_700_000_000_000L;

    record Rule(BatchRetention retention, long now, long deleteRetentionMs, Set<Long> keep) {}

    static class Shape {
        CompressionType codec = CompressionType.NONE;
        long baseOffset = 1000;
        int leaderEpoch = 5;
        long producerId = RecordBatch.NO_PRODUCER_ID;
        short producerEpoch = RecordBatch.NO_PRODUCER_EPOCH;
        int baseSequence = RecordBatch.NO_SEQUENCE;
        boolean transactional = false;
        long logAppendTime = -1;
        List<SimpleRecord> records = new ArrayList<>();

        Shape codec(CompressionType codec) {
            this.codec = codec;
            return this;
        }

        Shape at(long baseOffset, int leaderEpoch) {
            this.baseOffset = baseOffset;
            this.leaderEpoch = leaderEpoch;
            return this;
        }

        Shape producer(long id, int epoch, int sequence) {
            producerId = id;
            producerEpoch = (short) epoch;
            baseSequence = sequence;
            return this;
        }

        Shape transactional() {
            transactional = true;
            return this;
        }

        Shape appendedAt(long time) {
            logAppendTime = time;
            return this;
        }

        Shape add(long timestamp, byte[] key, byte[] value, Header... headers) {
            records.add(new SimpleRecord(timestamp, key, value, headers));
            return this;
        }

        Shape add(long timestamp, String key, String value, Header... headers) {
            return add(timestamp, bytes(key), bytes(value), headers);
        }

        byte[] build() {
            MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16),
                RecordBatch.MAGIC_VALUE_V2, Compression.of(codec).build(), TimestampType.CREATE_TIME, baseOffset,
                RecordBatch.NO_TIMESTAMP, producerId, producerEpoch, baseSequence, transactional, leaderEpoch);
            records.forEach(builder::append);
            MemoryRecords built = builder.build();
            if (logAppendTime >= 0)
                only(built).setMaxTimestamp(TimestampType.LOG_APPEND_TIME, logAppendTime);
            return contents(built.buffer());
        }
    }

    public static void main(String[] args) {
        for (CompressionType codec : CompressionType.values())
            ofEveryCodec(codec);
        emptied();
        timestamps();
        places();
        sizes();
        marker();
        foreign();
    }

    static void ofEveryCodec(CompressionType codec) {
        String name = codec.name + ": ";
        Rule someOfSix = rule(1000, 1003, 1004);
        Rule all = rule(1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007);

        print(name + "some go", six(codec).producer(4711, 2, 40).build(), someOfSix);
        print(name + "none goes", six(codec).producer(4711, 2, 40).build(), all);
        print(name + "the first goes", six(codec).build(), rule(1001, 1002, 1003, 1004, 1005));
        print(name + "the last goes", six(codec).build(), rule(1000, 1001, 1002, 1003, 1004));
        print(name + "of a transaction", six(codec).producer(4711, 2, 40).transactional().build(), someOfSix);
        print(name + "without keys", keyless(codec).build(), rule(1001, 1002));
        print(name + "with headers", withHeaders(codec).build(), rule(1001, 1002));

        byte[] tombstones = withTombstones(codec).producer(4711, 2, 40).build();
        byte[] horizon = print(name + "tombstones, none goes", tombstones, all);
        byte[] gaps = print(name + "tombstones, some go", tombstones, rule(1001, 1002, 1003, 1005));
        print(name + "tombstones, none is kept", tombstones, rule(1000, 1002, 1004));
        print(name + "a horizon, none goes", horizon, late(all, 1));
        print(name + "a horizon and gaps, some go", gaps, late(rule(1002, 1003, 1005), 2));
        print(name + "a horizon that is over, tombstones go", gaps, late(rule(1002), 2 * DAY));
        print(name + "a horizon, all go, the batch stays", gaps, late(empties(), 2 * DAY));

        print(name + "LogAppendTime, some go", six(codec).appendedAt(NOW - 7).build(), someOfSix);
        byte[] appended = withTombstones(codec).appendedAt(NOW - 7).build();
        byte[] appendedHorizon = print(name + "LogAppendTime, tombstones", appended, rule(1001, 1002));
        print(name + "LogAppendTime, a horizon", appendedHorizon, late(rule(1002), 5));

        print(name + "all go, the batch stays", tombstones, empties());
        print(name + "all go with the batch", tombstones, rule());
        print(name + "one record that stays", one(codec).build(), rule(1000));
        print(name + "one tombstone that stays", oneTombstone(codec).build(), rule(1000));
    }

    static void emptied() {
        CompressionType none = CompressionType.NONE;
        byte[] transactional = six(none).producer(4711, 2, 40).transactional().build();
        byte[] empty = print("emptied, of a transaction", transactional, empties());
        print("emptied twice", empty, empties());
        print("emptied, then gone", empty, rule());
        print("emptied, LogAppendTime", six(none).producer(1, 0, 0).appendedAt(NOW).build(), empties());
        print("not even read", transactional, new Rule(BatchRetention.DELETE, NOW, DAY, Set.of()));
        print("the batch may stay, and records do", transactional,
            new Rule(BatchRetention.RETAIN_EMPTY, NOW, DAY, Set.of(1004L)));
    }

    static void timestamps() {
        Shape unsorted = new Shape().add(FIRST + 500, "a", "1").add(FIRST, "b", "2").add(FIRST + 900, "c", "3");
        print("timestamps, the largest goes", unsorted.build(), rule(1000, 1001));
        print("timestamps, the first goes", unsorted.build(), rule(1001, 1002));
        Shape none = new Shape().add(-1, "a", "1").add(-1, "b", null).add(-1, "c", "3");
        print("no timestamps", none.build(), rule(1000, 1002));
        print("no timestamps, a tombstone", none.build(), rule(1000, 1001));
        Shape far = new Shape().add(0, "a", "1").add(Long.MAX_VALUE, "b", null).add(1, "c", "3");
        print("timestamps far apart", far.build(), rule(1001, 1002));
        print("timestamps far apart, value", far.build(), rule(1000, 1002));
        byte[] tombstones = withTombstones(CompressionType.NONE).build();
        Set<Long> keep = rule(1001, 1002, 1003).keep();
        Set<Long> all = rule(1000, 1001, 1002, 1003, 1004, 1005).keep();
        print("a horizon at once", tombstones, new Rule(BatchRetention.DELETE_EMPTY, NOW, 0, keep));
        print("a horizon at 0", tombstones, new Rule(BatchRetention.DELETE_EMPTY, 0, 0, keep));
        print("a horizon past the end of time, some go", tombstones,
            new Rule(BatchRetention.DELETE_EMPTY, NOW, Long.MAX_VALUE, keep));
        print("a horizon past the end of time, none goes", tombstones,
            new Rule(BatchRetention.DELETE_EMPTY, NOW, Long.MAX_VALUE, all));
        print("a horizon at the end of time", tombstones,
            new Rule(BatchRetention.DELETE_EMPTY, NOW, Long.MAX_VALUE - NOW, keep));
    }

    static void places() {
        Shape shape = six(CompressionType.NONE).at(0, 0).producer(1, 0, 0);
        print("at the log's start", shape.build(), rule(2, 3));
        print("at a far offset", shape.at(1L << 40, 1 << 20).build(), rule((1L << 40) + 1, (1L << 40) + 5));
        print("a sequence that wraps", shape.producer(Long.MAX_VALUE, Short.MAX_VALUE, Integer.MAX_VALUE - 2).build(),
            rule((1L << 40) + 4));
        print("no leader epoch", shape.at(7, -1).build(), rule(8, 9));
        byte[] once = print("filtered once", six(CompressionType.NONE).build(), rule(1001, 1002, 1005));
        byte[] twice = print("filtered twice", once, rule(1002, 1005));
        byte[] thrice = print("filtered to the last", twice, rule(1005));
        print("filtered again with the same rule", thrice, rule(1005));
    }

    static void sizes() {
        byte[] large = new byte[3000];
        for (int at = 0; at < large.length; at++)
            large[at] = (byte) (at * at % 251);
        byte[] middle = Arrays.copyOf(large, 200);
        for (CompressionType codec : CompressionType.values()) {
            Shape shape = new Shape().codec(codec).add(FIRST, bytes("large"), large).add(FIRST + 1, middle, middle)
                .add(FIRST + 2, bytes("large"), new byte[0]).add(FIRST + 3, new byte[0], large)
                .add(FIRST + 4, new byte[0], null);
            print(codec.name + ": large and empty fields", shape.build(), rule(1000, 1001, 1002));
            print(codec.name + ": large and empty fields, a tombstone", shape.build(), rule(1001, 1002, 1004));
        }
        Shape many = new Shape();
        for (int at = 0; at < 100; at++)
            many.add(FIRST + at * 70, "key-" + at, at % 9 == 4 ? null : "v" + at);
        print("many records, few stay", many.build(), rule(1003, 1064, 1065, 1099));
        Set<Long> odd = new TreeSet<>();
        for (long offset = 1001; offset < 1100; offset += 2)
            odd.add(offset);
        print("many records, half stay", many.build(), new Rule(BatchRetention.DELETE_EMPTY, NOW, DAY, odd));
    }

    static void marker() {
        for (ControlRecordType type : List.of(ControlRecordType.COMMIT, ControlRecordType.ABORT)) {
            MemoryRecords marker = MemoryRecords.withEndTransactionMarker(1000, FIRST, 5, 4711, (short) 2,
                new EndTransactionMarker(type, 9));
            String name = "a marker, " + type.name().toLowerCase() + ", ";
            print(name + "stays", contents(marker.buffer()), rule(1000));
            print(name + "emptied", contents(marker.buffer()), empties());
        }
    }

    /** What Kafka's clients don't write but Kafka reads. */
    static void foreign() {
        byte[] six = six(CompressionType.NONE).build();
        byte[] unused = six.clone();
        unused[21] = (byte) 0xFF;
        unused[22] |= (byte) 0x80;
        print("unused attribute bits, some go", sealed(unused), rule(1002));
        print("unused attribute bits, none goes", sealed(unused), rule(1000, 1001, 1002, 1003, 1004, 1005));
        print("unused attribute bits, emptied", sealed(unused), empties());

        byte[] none = new Shape().add(-1, "a", "1").add(-1, "b", null).add(FIRST, "c", "3").build();
        none[22] |= 0x40;
        print("a horizon below zero, some go", sealed(none), rule(1001, 1002));
        print("a horizon below zero, none goes", sealed(none), rule(1000, 1001, 1002));
        byte[] claimed = withTombstones(CompressionType.NONE).build();
        claimed[22] |= 0x40;
        print("a horizon that the producer claims", sealed(claimed), rule(1001, 1002));

        // Record attributes, a null as -2, numbers in more bytes than they need.
        ByteBuffer records = ByteBuffer.allocate(200);
        HexFormat spaced = HexFormat.ofDelimiter(" ");
        byte[][] bodies = {
            // attributes 7f, timestamp +1 in 3 bytes, offset 0, key "a", value "v", a header "h" whose value is null as -2
            spaced.parseHex("7f 82 80 00 00 02 61 02 76 02 02 68 03"),
            // attributes 1, timestamp +2, offset 1, key "ab" with a length of 3 bytes, value null as -3, no headers
            spaced.parseHex("01 04 02 84 80 00 61 62 05 00"),
            // timestamp +3, offset 2, key null as -2, value "x", no headers in 2 bytes
            spaced.parseHex("00 06 04 03 02 78 80 00"),
        };
        for (byte[] body : bodies) {
            records.put((byte) (body.length * 2 | 0x80)).put((byte) 0).put(body);
        }
        byte[] header = Arrays.copyOf(new Shape().add(FIRST, "a", "1").add(FIRST, "b", "2").add(FIRST, "c", "3").build(), 61);
        byte[] batch = Arrays.copyOf(header, 61 + records.position());
        System.arraycopy(records.array(), 0, batch, 61, records.position());
        print("foreign numbers, the tombstone stays", sealed(batch), rule(1000, 1001));
        print("foreign numbers, the tombstone goes", sealed(batch), rule(1000, 1002));
        print("foreign numbers, none goes", sealed(batch), rule(1000, 1001, 1002));
    }

    static Shape six(CompressionType codec) {
        Shape shape = new Shape().codec(codec);
        for (int at = 0; at < 6; at++)
            shape.add(FIRST + at * 37 % 11 * 1000, "key-" + at, "value " + at);
        return shape;
    }

    static Shape withTombstones(CompressionType codec) {
        Shape shape = new Shape().codec(codec);
        for (int at = 0; at < 6; at++)
            shape.add(FIRST + at * 1000, "key-" + at, at % 2 == 1 ? null : "value " + at);
        return shape;
    }

    static Shape keyless(CompressionType codec) {
        return new Shape().codec(codec).add(FIRST, null, "a").add(FIRST + 1, null, "b").add(FIRST + 2, "k", "c")
            .add(FIRST + 3, (byte[]) null, null);
    }

    static Shape withHeaders(CompressionType codec) {
        Header one = new RecordHeader("trace", bytes("1234"));
        Header nothing = new RecordHeader("nothing", null);
        Header empty = new RecordHeader("", new byte[0]);
        Header letters = new RecordHeader("größe", bytes("ü"));
        return new Shape().codec(codec).add(FIRST, "a", "1", one).add(FIRST + 5, "b", "2", one, nothing, empty, one)
            .add(FIRST + 9, "c", null, letters, empty).add(FIRST + 9, "d", "4");
    }

    static Shape one(CompressionType codec) {
        return new Shape().codec(codec).add(FIRST, "only", "one");
    }

    static Shape oneTombstone(CompressionType codec) {
        return new Shape().codec(codec).add(FIRST, "only", null);
    }

    static Rule rule(long... keep) {
        Set<Long> offsets = new TreeSet<>();
        for (long offset : keep)
            offsets.add(offset);
        return new Rule(BatchRetention.DELETE_EMPTY, NOW, DAY, offsets);
    }

    static Rule empties() {
        return new Rule(BatchRetention.RETAIN_EMPTY, NOW, DAY, Set.of());
    }

    static Rule late(Rule rule, long byMs) {
        return new Rule(rule.retention, rule.now + byMs, rule.deleteRetentionMs, rule.keep);
    }

    /** Prints a case; returns what Kafka made of it. */
    static byte[] print(String name, byte[] input, Rule rule) {
        RecordFilter filter = new RecordFilter(rule.now, rule.deleteRetentionMs) {
            @Override
            protected BatchRetentionResult checkBatchRetention(RecordBatch batch) {
                return new BatchRetentionResult(rule.retention, false);
            }

            @Override
            protected boolean shouldRetainRecord(RecordBatch batch, Record record) {
                return rule.keep.contains(record.offset());
            }
        };
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(input));
        ByteBuffer filtered = records.filterTo(filter, ByteBuffer.allocate(1 << 16), BufferSupplier.NO_CACHING)
            .outputBuffer();
        filtered.flip();
        byte[] output = contents(filtered);
        HexFormat hex = HexFormat.of();
        System.out.println("{\"name\":\"" + name + "\",\"input\":\"" + hex.formatHex(input) + "\",\"keep\":"
            + rule.keep.toString().replace(" ", "") + ",\"retention\":\"" + rule.retention + "\",\"now\":" + rule.now
            + ",\"delete_retention_ms\":" + rule.deleteRetentionMs + ",\"output\":\"" + hex.formatHex(output) + "\"}");
        return output;
    }

    /** With the length and the CRC that it needs. */
    static byte[] sealed(byte[] batch) {
        byte[] sealed = batch.clone();
        CRC32C crc = new CRC32C();
        crc.update(sealed, 21, sealed.length - 21);
        ByteBuffer.wrap(sealed).putInt(8, sealed.length - 12).putInt(17, (int) crc.getValue());
        return sealed;
    }

    static MutableRecordBatch only(MemoryRecords records) {
        return records.batches().iterator().next();
    }

    static byte[] contents(ByteBuffer buffer) {
        byte[] contents = new byte[buffer.remaining()];
        buffer.duplicate().get(contents);
        return contents;
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }
}
