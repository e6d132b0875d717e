// What every store promises, whatever it is made of.

import Testing
import UkehiBase
import UkehiState

@Suite("every state store")
struct StoreTests {
    static func put(
        _ batch: any StoreBatch, _ key: Bytes, _ value: Bytes, version: UInt64,
        expiresAt: UInt64 = 0, space: StoreSpace = .user
    ) {
        key.withUnsafeBytes { key in
            value.withUnsafeBytes {
                batch.put(space, key, $0, version: version, expiresAt: expiresAt)
            }
        }
    }
    static func get(
        _ store: any StateStore, _ key: Bytes, space: StoreSpace = .user
    ) throws -> StoredValue? {
        try key.withUnsafeBytes { key throws(StateError) in
            try store.get(space, key, tier: .any)
        }
    }
    static func get(_ batch: any StoreBatch, _ key: Bytes) throws -> StoredValue? {
        try key.withUnsafeBytes { key throws(StateError) in try batch.get(.user, key) }
    }
    static func scan(
        _ store: any StateStore, _ lower: Bytes = "", _ upper: Bytes = "",
        space: StoreSpace = .user
    ) throws -> [KeyValue] {
        let view = try store.openView(tier: .any)
        defer { view.close() }
        var pairs: [KeyValue] = []
        try view.scan(space, from: lower, to: upper) {
            pairs.append(
                KeyValue(
                    key: Bytes(copying: $0.key), value: Bytes(copying: $0.value),
                    version: $0.version))
            return true
        }
        return pairs
    }

    @Test(
        "a batch's reads see its own writes, and nobody else does before commit",
        arguments: StoreKind.all)
    func batchReads(_ kind: StoreKind) throws {
        let box = try kind.make(1)
        let batch = box.store.makeBatch()
        batch.begin()
        Self.put(batch, "b", "old", version: 1)
        Self.put(batch, "c", "kept", version: 1)
        try batch.commit()

        batch.begin()
        #expect(try Self.get(batch, "b")?.value == "old")
        Self.put(batch, "b", "new", version: 2, expiresAt: 77)
        #expect(
            try Self.get(batch, "b") == StoredValue(value: "new", version: 2, expiresAt: 77))
        Bytes("b").withUnsafeBytes { batch.delete(.user, $0) }
        #expect(try Self.get(batch, "b") == nil)
        Self.put(batch, "b2", "", version: 3)
        Bytes("b").withUnsafeBytes { lower in
            Bytes("c").withUnsafeBytes { batch.deleteRange(.user, lower, $0) }
        }
        #expect(try Self.get(batch, "b2") == nil)
        #expect(try Self.get(batch, "c")?.value == "kept")
        Self.put(batch, "b2", "again", version: 4)
        #expect(try Self.get(batch, "b2")?.value == "again")
        if !box.store.isInMemory {
            #expect(try Self.get(box.store, "b")?.value == "old")
        }
        try batch.commit()
        #expect(try Self.scan(box.store).map(\.key) == ["b2", "c"])
        box.store.close()
    }

    @Test("the spaces do not mix", arguments: StoreKind.all)
    func spaces(_ kind: StoreKind) throws {
        let box = try kind.make(2)
        let batch = box.store.makeBatch()
        batch.begin()
        Self.put(batch, "", "user", version: 1)
        Self.put(batch, "", "system", version: 2, space: .system)
        Self.put(batch, [0xff, 0xff], "last", version: 3)
        batch.putRegionState(
            RegionID(7), RegionState(epoch: RegionEpoch(confVersion: 1, version: 2)))
        try batch.commit()
        #expect(try Self.get(box.store, "")?.value == "user")
        #expect(try Self.get(box.store, "", space: .system)?.value == "system")
        batch.begin()
        Bytes().withUnsafeBytes { batch.deleteRange(.user, $0, $0) }
        try batch.commit()
        #expect(try Self.scan(box.store).isEmpty)
        #expect(try Self.scan(box.store, space: .system).count == 1)
        #expect(try box.store.regionState(RegionID(7)) != nil)
        #expect(try box.store.regionState(RegionID(8)) == nil)
        box.store.close()
    }

    @Test("scans are ordered, half-open and stop when told", arguments: StoreKind.all)
    func scans(_ kind: StoreKind) throws {
        let box = try kind.make(3)
        let batch = box.store.makeBatch()
        let keys: [Bytes] = ["", "a", "a\u{0}", "aa", "ab", "b", [0x80], [0xff], [0xff, 0]]
        batch.begin()
        for (position, key) in keys.shuffled().enumerated() {
            Self.put(batch, key, key, version: UInt64(position))
        }
        try batch.commit()
        #expect(try Self.scan(box.store).map(\.key) == keys)
        #expect(try Self.scan(box.store, "a", "b").map(\.key) == ["a", "a\u{0}", "aa", "ab"])
        #expect(try Self.scan(box.store, "aa\u{0}", "").map(\.key) == Array(keys[4...]))
        let view = try box.store.openView(tier: .any)
        var seen = 0
        try view.scan(.user, from: "", to: "") { _ in
            seen += 1
            return seen < 3
        }
        view.close()
        #expect(seen == 3)
        box.store.close()
    }

    @Test("random batches leave what a dictionary would", arguments: StoreKind.all)
    func model(_ kind: StoreKind) throws {
        let box = try kind.make(4)
        var dice = Dice(44)
        var twin: [Bytes: Bytes] = [:]
        func key() -> Bytes {
            Bytes(String(repeating: "k", count: dice.roll(4) * 9) + "\(dice.roll(40))")
        }
        let batch = box.store.makeBatch()
        for round in 0..<200 {
            batch.begin()
            for _ in 0..<dice.roll(20) {
                let key = key()
                switch dice.roll(8) {
                case 0:
                    let upper = key > "kk" ? Bytes() : Bytes("kk")
                    key.withUnsafeBytes { lower in
                        upper.withUnsafeBytes { batch.deleteRange(.user, lower, $0) }
                    }
                    twin = twin.filter { $0.key < key || (!upper.isEmpty && $0.key >= upper) }
                case 1, 2:
                    key.withUnsafeBytes { batch.delete(.user, $0) }
                    twin[key] = nil
                case 3:
                    #expect(try Self.get(batch, key)?.value == twin[key])
                default:
                    let value = dice.bytes(dice.roll(dice.roll(10) == 0 ? 5000 : 50))
                    Self.put(batch, key, value, version: UInt64(round))
                    twin[key] = value
                }
            }
            try batch.commit()
            if round % 20 == 0 { try box.flush() }
            #expect(try Self.scan(box.store).map(\.key) == twin.keys.sorted())
            #expect(try Self.scan(box.store).map(\.value) == twin.keys.sorted().map { twin[$0] })
        }
        box.store.close()
    }
}
