// How the key-value applier meets a store that refuses or fails.

import Testing
import UkehiBase
import UkehiState

/// A memory store whose batches stall, and whose reads fail, when told to.
private final class UnwillingStore: StateStore, @unchecked Sendable {
    // Safety: used by one thread.
    let inner = MemoryStore()
    var stallsLeft = 0
    var relieved = 0
    /// Called while a batch waits, before anything of it is in the store.
    var whileStalled: () -> Void = {}
    var readsFail = false

    var isInMemory: Bool { true }
    func makeBatch() -> any StoreBatch { UnwillingBatch(self, inner.makeBatch()) }
    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, tier: ReadTier
    ) throws(StateError) -> StoredValue? { inner.get(space, key, tier: tier) }
    func openView(tier: ReadTier) throws(StateError) -> any StateView { inner.openView(tier: tier) }
    func regionState(_ region: RegionID) throws(StateError) -> Bytes? { inner.regionState(region) }
    func regionDescriptor(_ region: RegionID) throws(StateError) -> Bytes? {
        inner.regionDescriptor(region)
    }
    func grave(_ region: RegionID) throws(StateError) -> UInt64? { inner.grave(region) }
    func flushedGrave(_ region: RegionID) throws(StateError) -> UInt64? { nil }
    func flushedRegionState(_ region: RegionID) throws(StateError) -> Bytes? { nil }
    var survivesRestart: Bool { false }
    func openLongView(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any LongView { inner.openLongView(of: region, space, range) }
    func makeIngestion(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any StateIngestion { inner.makeIngestion(of: region, space, range) }
    func requestFlush() throws(StateError) {}
    func relieveStall() {
        relieved += 1
        stallsLeft -= 1
        whileStalled()
    }
    func close() { inner.close() }
}

/// Keeps its writes until it is committed, as a batch of a store with rollback does; reads do not see
/// them, which these tests do not need.
private final class UnwillingBatch: StoreBatch {
    private var writes: [() -> Void] = []
    private let store: UnwillingStore
    private let inner: any StoreBatch
    init(_ store: UnwillingStore, _ inner: any StoreBatch) {
        self.store = store
        self.inner = inner
    }
    func begin() {}
    func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64
    ) {
        let key = Bytes(copying: key)
        let value = Bytes(copying: value)
        writes.append { [inner] in
            key.withUnsafeBytes { key in
                value.withUnsafeBytes {
                    inner.put(space, key, $0, version: version, expiresAt: expiresAt)
                }
            }
        }
    }
    func delete(_ space: StoreSpace, _ key: UnsafeRawBufferPointer) {
        let key = Bytes(copying: key)
        writes.append { [inner] in key.withUnsafeBytes { inner.delete(space, $0) } }
    }
    func deleteRange(
        _ space: StoreSpace, _ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer
    ) {
        let lower = Bytes(copying: lower)
        let upper = Bytes(copying: upper)
        writes.append { [inner] in
            lower.withUnsafeBytes { lower in
                upper.withUnsafeBytes { inner.deleteRange(space, lower, $0) }
            }
        }
    }
    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) throws(StateError) -> StoredValue? {
        if store.readsFail { throw StateError(.ioFailed, "A read failed.") }
        return store.inner.get(space, key, tier: .any)
    }
    func putRegionState(_ region: RegionID, _ state: RegionState) {
        writes.append { [inner] in inner.putRegionState(region, state) }
    }
    func putRegionDescriptor(_ region: RegionID, _ descriptor: Bytes) {
        writes.append { [inner] in inner.putRegionDescriptor(region, descriptor) }
    }
    func removeRegion(_ region: RegionID, grave: UInt64) {
        writes.append { [inner] in inner.removeRegion(region, grave: grave) }
    }
    func commit() throws(StateError) {
        if store.stallsLeft > 0 { throw StateError(.stalled, "Nothing was written.") }
        inner.begin()
        for write in writes { write() }
        writes = []
        try inner.commit()
    }
    func discard() { writes = [] }
}

@Suite("stores that refuse or fail")
struct StallTests {
    private func apply(_ applier: KeyValueApplier, _ commands: [Command]) throws -> ApplyItem {
        var batch = ApplyBatch()
        batch.append(
            region: RegionID(2), entries: [try entry(commands, index: 1)], wantsResults: true)
        try applier.apply(&batch)
        return batch.items[0]
    }

    @Test("a stalled batch is committed once, when the store takes it")
    func stall() throws {
        let store = UnwillingStore()
        let applier = KeyValueApplier(store: store)
        _ = try applier.open(region: RegionID(2), system: false, range: .all, epoch: epoch1)
        store.stallsLeft = 3
        let item = try apply(applier, [.increment(key: "n", by: 2)])
        #expect(store.relieved == 3)
        #expect(Array(item.results[0]) == [.counter(value: 2, version: 1)])
        #expect(try applier.digest(region: RegionID(2)).applied == LogIndex(1))
    }

    @Test("while a division waits for the store, nobody gets a snapshot or a digest of half of it")
    func viewsOfADivision() throws {
        let store = UnwillingStore()
        let applier = KeyValueApplier(store: store)
        _ = try applier.open(region: RegionID(2), system: false, range: .all, epoch: epoch1)
        _ = try apply(applier, [.put(key: "a", value: "1"), .put(key: "z", value: "2")])
        let next = RegionEpoch(confVersion: epoch1.confVersion, version: epoch1.version + 1)
        let command = SplitCommand(parts: [
            .init(region: RegionID(20), end: "m", leader: PeerID(21), peers: [PeerID(21)])
        ])
        let entry = Entry(
            term: Term(1), index: LogIndex(2),
            data: EntryPayload.encode(admin: .split(command), epoch: epoch1, time: 1))
        var batch = ApplyBatch()
        batch.append(
            region: RegionID(2), entries: [entry], wantsResults: false,
            change: RegionChange(
                epoch: next, descriptor: "descriptor", range: KeyRange(lower: "m", upper: ""),
                parts: [
                    RegionPart(
                        region: RegionID(20), range: KeyRange(lower: "", upper: "m"), epoch: next,
                        applied: LogIndex(5), appliedTerm: Term(5), isHere: true)
                ]))
        store.stallsLeft = 1
        store.whileStalled = {
            for region in [RegionID(2), RegionID(20)] {
                let error = #expect(throws: StateError.self) {
                    try applier.writeSnapshot(of: region) { _, _ in
                        throw SnapshotError(.refused, "It was begun.")
                    }
                }
                #expect(error?.code == .wouldBlock)
                #expect(throws: StateError.self) { try applier.digest(region: region) }
            }
        }
        try applier.apply(&batch)
        #expect(store.relieved == 1)
        for region in [RegionID(2), RegionID(20)] {
            #expect(throws: SnapshotError.self) {
                try applier.writeSnapshot(of: region) { state, _ in
                    #expect(state.epoch == next)
                    throw SnapshotError(.refused, "It was begun.")
                }
            }
            _ = try applier.digest(region: region)
        }
    }

    @Test(
        "where waiting is not allowed, a stall, a read or a large batch leaves everything as it was"
    )
    func withoutWaiting() throws {
        let store = UnwillingStore()
        let applier = KeyValueApplier(store: store)
        _ = try applier.open(region: RegionID(2), system: false, range: .all, epoch: epoch1)
        func batch(_ commands: [Command]) throws -> ApplyBatch {
            var batch = ApplyBatch()
            batch.append(
                region: RegionID(2), entries: [try entry(commands, index: 1)], wantsResults: true)
            return batch
        }
        let refused: [[Command]] = [
            [.increment(key: "n", by: 2)],
            [.put(key: "a", value: ""), .increment(key: "n", by: 1)],
            [.compareAndSet(key: "n", expected: .absent, value: "")],
            [.batch([.put(key: "a", value: "")])], [.deleteRange(lower: "a", upper: "b")],
            [.put(key: "a", value: Bytes([UInt8](repeating: 1, count: 5000)))],
        ]
        for commands in refused {
            var batch = try batch(commands)
            #expect(try !applier.applyWithoutWaiting(&batch, atMost: 4 << 10))
        }
        var writes = try batch([.put(key: "a", value: "1"), .delete(key: "b")])
        store.stallsLeft = 1
        #expect(try !applier.applyWithoutWaiting(&writes, atMost: 4 << 10))
        #expect(store.relieved == 0)
        #expect(try applier.digest(region: RegionID(2)).applied == .zero)
        // The same batch, where waiting is allowed: nothing of the attempt is left.
        try applier.apply(&writes)
        #expect(store.relieved == 1)
        #expect(Array(writes.items[0].results[0]) == [.applied(version: 1), .applied(version: 2)])
        var next = ApplyBatch()
        next.append(
            region: RegionID(2), entries: [try entry([.delete(key: "a")], index: 2)],
            wantsResults: true)
        #expect(try applier.applyWithoutWaiting(&next, atMost: 4 << 10))
        #expect(Array(next.items[0].results[0]) == [.applied(version: 3)])
        #expect(try applier.digest(region: RegionID(2)).applied == LogIndex(2))
    }

    @Test("a failed read is fatal, is no result, and leaves the store unlocked")
    func failure() throws {
        let store = UnwillingStore()
        let applier = KeyValueApplier(store: store)
        _ = try applier.open(region: RegionID(2), system: false, range: .all, epoch: epoch1)
        store.readsFail = true
        let commands: [[Command]] = [
            [.increment(key: "n", by: 2)],
            [.compareAndSet(key: "n", expected: .absent, value: "")],
            [.batch([.check(key: "n", expected: .absent)])],
            [.batch([.increment(key: "n", by: 1)])],
        ]
        for commands in commands {
            do {
                _ = try apply(applier, commands)
                Issue.record("a command ran without its read")
            } catch let error as StateError {
                #expect(error.code == .ioFailed)
            }
            #expect(try applier.digest(region: RegionID(2)).applied == .zero)
        }
    }
}
