// A region's content replaced at once, in every store (RULES 48).

import Testing
import UkehiBase
import UkehiState

@Suite("ingestions of every store")
struct StoreIngestionTests {
    private static let region = RegionID(7)
    private static let other = RegionID(8)
    private static let range = KeyRange(lower: "c", upper: "m")
    private static func state(_ index: UInt64) -> RegionState {
        RegionState(
            applied: LogIndex(index), appliedTerm: Term(3), revision: 100,
            epoch: RegionEpoch(confVersion: 1, version: 1))
    }

    /// Pairs inside of the range and around it, and the states of two regions.
    private static func filled(_ kind: StoreKind, seed: UInt64 = 1) throws -> StoreBox {
        let box = try kind.make(seed)
        let batch = box.store.makeBatch()
        batch.begin()
        for key: Bytes in ["a", "b~", "c", "d", "dd", "k", "lzz", "m", "z"] {
            StoreTests.put(batch, key, "old", version: 5)
        }
        StoreTests.put(batch, "d", "system", version: 5, space: .system)
        batch.putRegionState(region, state(10))
        batch.putRegionState(other, state(20))
        try batch.commit()
        return box
    }

    private static func put(
        _ ingestion: any StateIngestion, _ key: Bytes, _ value: Bytes, expiresAt: UInt64 = 0
    ) throws {
        try key.withUnsafeBytes { key throws(StateError) in
            try value.withUnsafeBytes { value throws(StateError) in
                try ingestion.put(key, value, version: 50, expiresAt: expiresAt)
            }
        }
    }

    private static func ingest(_ box: StoreBox, _ pairs: [Bytes: Bytes], index: UInt64) throws {
        let ingestion = try box.store.makeIngestion(of: region, .user, range)
        for (key, value) in pairs.sorted(by: { $0.key < $1.key }) {
            try put(ingestion, key, value)
        }
        try ingestion.finish(state(index), descriptor: "members")
    }

    private static func keys(_ box: StoreBox) throws -> [Bytes] {
        try StoreTests.scan(box.store).map(\.key)
    }

    private static func applied(_ box: StoreBox, _ region: RegionID) throws -> LogIndex? {
        try box.store.regionState(region).map {
            try RegionState.decode($0, region: region).applied
        }
    }

    @Test("replaces the range and the state, and nothing else", arguments: StoreKind.all)
    func replaces(_ kind: StoreKind) throws {
        let box = try Self.filled(kind)
        try Self.ingest(box, ["d": "new", "e": "new", "lzzz": ""], index: 30)
        #expect(try Self.keys(box) == ["a", "b~", "d", "e", "lzzz", "m", "z"])
        #expect(try StoreTests.get(box.store, "d")?.value == "new")
        #expect(try StoreTests.get(box.store, "d")?.version == 50)
        #expect(try StoreTests.get(box.store, "dd") == nil)
        #expect(try StoreTests.get(box.store, "d", space: .system)?.value == "system")
        #expect(try Self.applied(box, Self.region) == LogIndex(30))
        #expect(try box.store.regionDescriptor(Self.region) == "members")
        #expect(try box.store.regionDescriptor(Self.other) == nil)
        #expect(try Self.applied(box, Self.other) == LogIndex(20))
        // And what is written later stands above it.
        let batch = box.store.makeBatch()
        batch.begin()
        StoreTests.put(batch, "d", "later", version: 60)
        try batch.commit()
        #expect(try StoreTests.get(box.store, "d")?.value == "later")
        box.store.close()
    }

    @Test("replaces a range without end, and by nothing", arguments: StoreKind.all)
    func toTheEnd(_ kind: StoreKind) throws {
        let box = try Self.filled(kind)
        let ingestion = try box.store.makeIngestion(
            of: Self.region, .user, KeyRange(lower: "d", upper: ""))
        try ingestion.finish(Self.state(31), descriptor: "members")
        #expect(try Self.keys(box) == ["a", "b~", "c"])
        #expect(try StoreTests.get(box.store, "d", space: .system)?.value == "system")
        #expect(try Self.applied(box, Self.region) == LogIndex(31))
        box.store.close()
    }

    @Test("keeps expiry, long keys and many files in order", arguments: StoreKind.all)
    func large(_ kind: StoreKind) throws {
        let box = try Self.filled(kind)
        let ingestion = try box.store.makeIngestion(of: Self.region, .user, Self.range)
        var dice = Dice(4)
        var expected: [Bytes] = []
        for number in 0..<40 {
            var key = Array("d".utf8) + [UInt8(number / 16), UInt8(number % 16)]
            if number % 7 == 0 { key += dice.bytes(CommandLimits.maxKeyBytes - key.count).array }
            expected.append(Bytes(key))
            try Self.put(
                ingestion, Bytes(key), dice.bytes(100_000), expiresAt: number == 3 ? 77 : 0)
        }
        try ingestion.finish(Self.state(32), descriptor: "members")
        #expect(try Self.keys(box) == ["a", "b~"] + expected + ["m", "z"])
        #expect(try StoreTests.get(box.store, expected[3])?.expiresAt == 77)
        box.store.close()
    }

    @Test("changes nothing before it is finished", arguments: StoreKind.all)
    func abandoned(_ kind: StoreKind) throws {
        guard kind.isDurable else { return }
        let box = try Self.filled(kind)
        let before = try Self.keys(box)
        let ingestion = try box.store.makeIngestion(of: Self.region, .user, Self.range)
        try Self.put(ingestion, "d", "half")
        #expect(try Self.keys(box) == before)
        try box.flush()
        let unfinished = try box.store.makeIngestion(of: Self.region, .user, Self.range)
        try Self.put(unfinished, "e", "half")
        ingestion.abandon()
        unfinished.abandon()
        try box.crash()
        #expect(try Self.keys(box) == before)
        #expect(try Self.applied(box, Self.region) == LogIndex(10))
        box.store.close()
    }

    @Test("is durable at once, whatever was not flushed before", arguments: StoreKind.all)
    func survives(_ kind: StoreKind) throws {
        guard kind.isDurable else { return }
        for seed in 1...UInt64(kind.name == "RocksDB" ? 2 : 30) {
            let box = try Self.filled(kind, seed: seed)
            try Self.ingest(box, ["e": "new"], index: 33)
            try box.crash()
            #expect(try StoreTests.scan(box.store, "c", "m").map(\.key) == ["e"])
            #expect(try Self.applied(box, Self.region) == LogIndex(33))
            // What else was in the batch before it is a whole batch, or not there.
            let others = try Self.keys(box).filter { $0 != "e" }
            #expect(others == ["a", "b~", "m", "z"] || others.isEmpty)
            #expect(
                try Self.applied(box, Self.other) == (others.isEmpty ? nil : LogIndex(20)))
            box.store.close()
        }
    }
}

/// Views that stand still.
@Suite("long views of every store")
struct StoreLongViewTests {
    @Test(
        "show what was there when they were opened, whatever is written meanwhile",
        arguments: StoreKind.all)
    func standStill(_ kind: StoreKind) throws {
        for seed in 1...UInt64(kind.name == "RocksDB" ? 2 : 12) {
            let box = try kind.make(seed)
            var dice = Dice(seed)
            func key() -> Bytes { Bytes("k\(dice.roll(400))") }
            func write(_ count: Int) throws {
                let batch = box.store.makeBatch()
                batch.begin()
                for _ in 0..<count {
                    switch dice.roll(12) {
                    case 0:
                        let (a, b) = (key(), key())
                        min(a, b).withUnsafeBytes { lower in
                            max(a, b).withUnsafeBytes { batch.deleteRange(.user, lower, $0) }
                        }
                    case 1...4: key().withUnsafeBytes { batch.delete(.user, $0) }
                    default:
                        StoreTests.put(
                            batch, key(), dice.bytes(dice.roll(1200)),
                            version: 1 + UInt64(dice.roll(1000)))
                    }
                }
                batch.putRegionState(
                    RegionID(2),
                    RegionState(
                        applied: LogIndex(1 + UInt64(dice.roll(1000))), appliedTerm: Term(1),
                        epoch: epoch1))
                try batch.commit()
            }
            for _ in 0..<40 { try write(40) }
            let range = KeyRange(lower: "k1", upper: dice.roll(2) == 0 ? "k3" : "")
            let expected = try StoreTests.scan(box.store, range.lower, range.upper)
            let state = try box.store.regionState(RegionID(2))
            let view = try box.store.openLongView(of: RegionID(2), .user, range)
            var seen: [KeyValue] = []
            var failure: (any Error)?
            try view.scan { entry in
                seen.append(
                    KeyValue(
                        key: Bytes(copying: entry.key), value: Bytes(copying: entry.value),
                        version: entry.version))
                do {
                    if dice.roll(6) == 0 { try write(1 + dice.roll(30)) }
                } catch {
                    failure = error
                }
                return true
            }
            #expect(failure == nil)
            #expect(seen == expected, "seed \(seed): \(seen.count) of \(expected.count)")
            #expect(view.regionState == state)
            view.close()
            // A closed one costs nothing more, and nothing was lost by it.
            try write(10)
            box.store.close()
        }
    }
}
