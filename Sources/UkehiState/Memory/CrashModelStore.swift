// The store of every simulation: what RocksDB without its own log promises about crashes, and no
// more, in memory and from one seed.
//
//   batches committed   1 2 3 4 5 6 7 8 9
//   durable             ─────┤  flushed: 3
//   after a crash       any of 1…3, 1…4, …, 1…9, chosen by the seed
//
// A flush is asked for and completes some commits later; now and then one completes unasked, as
// when a memtable is full. What is flushed is always a prefix of the batches.

package import UkehiBase

/// A ``StateStore`` that can lose what was not flushed.
package final class CrashModelStore: StateStore, @unchecked Sendable {
    // Safety: all of it is behind `lock`, but for the two stores, which have their own.

    /// How often flushes happen. Chances are one in so many commits; 0: never.
    package struct Options: Sendable {
        /// A flush that was asked for completes.
        package var completesOneIn: UInt64
        /// Some batches are flushed unasked.
        package var flushesUnaskedOneIn: UInt64
        /// Whether reads and batches may run on a lane; false drives the node as RocksDB does.
        package var isInMemory: Bool

        package init(
            completesOneIn: UInt64 = 4, flushesUnaskedOneIn: UInt64 = 64, isInMemory: Bool = true
        ) {
            self.completesOneIn = completesOneIn
            self.flushesUnaskedOneIn = flushesUnaskedOneIn
            self.isInMemory = isInMemory
        }
    }

    fileprivate enum Change {
        case put(StoreSpace, Bytes, Bytes, version: UInt64, expiresAt: UInt64)
        case delete(StoreSpace, Bytes)
        case deleteRange(StoreSpace, Bytes, Bytes)
        case region(RegionID, RegionState)
        case descriptor(RegionID, Bytes)
        case removeRegion(RegionID, grave: UInt64)

        func write(to batch: any StoreBatch) {
            switch self {
            case .put(let space, let key, let value, let version, let expiresAt):
                key.withUnsafeBytes { key in
                    value.withUnsafeBytes { value in
                        batch.put(space, key, value, version: version, expiresAt: expiresAt)
                    }
                }
            case .delete(let space, let key):
                key.withUnsafeBytes { batch.delete(space, $0) }
            case .deleteRange(let space, let lower, let upper):
                lower.withUnsafeBytes { lower in
                    upper.withUnsafeBytes { batch.deleteRange(space, lower, $0) }
                }
            case .region(let region, let state): batch.putRegionState(region, state)
            case .descriptor(let region, let bytes): batch.putRegionDescriptor(region, bytes)
            case .removeRegion(let region, let grave): batch.removeRegion(region, grave: grave)
            }
        }
    }

    private let lock = Lock()
    private let options: Options
    private var random: SplitMix
    fileprivate private(set) var live = MemoryStore()
    private let durable = MemoryStore()
    /// Batches that are committed and not flushed, oldest first.
    private var pending: [[Change]] = []
    /// How many of `pending` a flush that was asked for will cover.
    private var asked = 0

    package init(seed: UInt64, options: Options = Options()) {
        random = SplitMix(state: seed)
        self.options = options
    }

    package var isInMemory: Bool { options.isInMemory }
    package func makeBatch() -> any StoreBatch { CrashModelBatch(self) }
    package func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, tier: ReadTier
    ) -> StoredValue? { current.get(space, key, tier: tier) }
    package func openView(tier: ReadTier) -> any StateView { current.openView(tier: tier) }
    package var survivesRestart: Bool { true }
    package func openLongView(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) -> any LongView { current.openLongView(of: region, space, range) }
    package func makeIngestion(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) -> any StateIngestion { CrashModelIngestion(self, region, space, range) }
    package func regionState(_ region: RegionID) -> Bytes? { current.regionState(region) }
    package func regionDescriptor(_ region: RegionID) -> Bytes? { current.regionDescriptor(region) }
    package func grave(_ region: RegionID) -> UInt64? { current.grave(region) }
    package func flushedGrave(_ region: RegionID) -> UInt64? { durable.grave(region) }
    package func flushedRegionState(_ region: RegionID) -> Bytes? { durable.regionState(region) }
    package func relieveStall() {}

    fileprivate var current: MemoryStore { lock.withLock { live } }

    /// Batches that a crash now could lose.
    package var unflushedBatches: Int { lock.withLock { pending.count } }

    package func requestFlush() {
        lock.withLock {
            // Nothing came since it was asked for last: a real one needs no commits to end.
            if asked > 0, asked == pending.count {
                flush(asked)
                asked = 0
            } else {
                asked = pending.count
            }
        }
    }

    /// Completes the flush that was asked for last.
    package func completeFlush() {
        lock.withLock {
            flush(asked)
            asked = 0
        }
    }

    /// A clean stop: everything is flushed. The store can be used again, as a reopened one.
    package func close() {
        lock.withLock { flush(pending.count) }
    }

    /// A crash: the store is back at some prefix of its batches, at least the flushed ones. Batches
    /// and views from before must not be used any more. Returns how many batches were lost.
    @discardableResult
    package func crash() -> Int {
        lock.withLock {
            let kept = Int(random.next() % UInt64(pending.count + 1))
            let lost = pending.count - kept
            flush(kept)
            pending = []
            asked = 0
            live = MemoryStore()
            copyDurable(to: live)
            return lost
        }
    }

    /// Durable at once, past batches of other regions that are not: those it overlaps go first, as
    /// RocksDB flushes a memtable that an ingested file overlaps.
    fileprivate func ingest(_ changes: [Change], of region: RegionID) {
        lock.withLock {
            let last = pending.lastIndex { batch in
                batch.contains { if case .region(region, _) = $0 { true } else { false } }
            }
            if let last { flush(last + 1) }
            for store in [durable, live] {
                let batch = store.makeBatch()
                batch.begin()
                for change in changes { change.write(to: batch) }
                batch.discard()
            }
        }
    }

    // MARK: Behind the lock

    fileprivate func commit(_ changes: [Change]) {
        lock.withLock {
            pending.append(changes)
            if options.flushesUnaskedOneIn > 0, random.next() % options.flushesUnaskedOneIn == 0 {
                flush(1 + Int(random.next() % UInt64(pending.count)))
            }
            if asked > 0, options.completesOneIn > 0, random.next() % options.completesOneIn == 0 {
                flush(asked)
                asked = 0
            }
        }
    }

    private func flush(_ count: Int) {
        guard count > 0 else { return }
        let batch = durable.makeBatch()
        batch.begin()
        for change in pending[..<count].joined() { change.write(to: batch) }
        batch.discard()  // The memory store has written through; this lets its lock go.
        pending.removeFirst(count)
        asked = max(0, asked - count)
    }

    private func copyDurable(to target: MemoryStore) {
        let batch = target.makeBatch()
        batch.begin()
        durable.copyAll(to: batch)
        batch.discard()
    }
}

/// Sebastiano Vigna's SplitMix64: enough chance for choosing moments.
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// Writes through to the live store and notes what it wrote.
private final class CrashModelBatch: StoreBatch {
    private let store: CrashModelStore
    private var inner: (any StoreBatch)?
    private var changes: [CrashModelStore.Change] = []

    init(_ store: CrashModelStore) { self.store = store }

    func begin() {
        // Anew each time: a crash replaces the live store.
        let batch = store.current.makeBatch()
        batch.begin()
        inner = batch
        changes = []
    }
    func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64
    ) {
        inner?.put(space, key, value, version: version, expiresAt: expiresAt)
        changes.append(
            .put(
                space, Bytes(copying: key), Bytes(copying: value), version: version,
                expiresAt: expiresAt))
    }
    func delete(_ space: StoreSpace, _ key: UnsafeRawBufferPointer) {
        inner?.delete(space, key)
        changes.append(.delete(space, Bytes(copying: key)))
    }
    func deleteRange(
        _ space: StoreSpace, _ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer
    ) {
        inner?.deleteRange(space, lower, upper)
        changes.append(.deleteRange(space, Bytes(copying: lower), Bytes(copying: upper)))
    }
    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) throws(StateError) -> StoredValue? {
        try inner?.get(space, key)
    }
    func putRegionState(_ region: RegionID, _ state: RegionState) {
        inner?.putRegionState(region, state)
        changes.append(.region(region, state))
    }
    func putRegionDescriptor(_ region: RegionID, _ descriptor: Bytes) {
        inner?.putRegionDescriptor(region, descriptor)
        changes.append(.descriptor(region, descriptor))
    }
    func removeRegion(_ region: RegionID, grave: UInt64) {
        inner?.removeRegion(region, grave: grave)
        changes.append(.removeRegion(region, grave: grave))
    }
    func commit() throws(StateError) {
        // Noted before the live store lets readers in.
        store.commit(changes)
        try inner?.commit()
        inner = nil
        changes = []
    }
    func discard() {
        inner?.discard()
        inner = nil
        changes = []
    }
}

/// Keeps a region's new content until it is whole.
private final class CrashModelIngestion: StateIngestion {
    private let store: CrashModelStore
    private let region: RegionID
    private let space: StoreSpace
    private var changes: [CrashModelStore.Change]

    init(_ store: CrashModelStore, _ region: RegionID, _ space: StoreSpace, _ range: KeyRange) {
        self.store = store
        self.region = region
        self.space = space
        let sessions = SessionKey.range(of: region)
        changes = [
            .deleteRange(space, range.lower, range.upper),
            .deleteRange(.sessions, sessions.lower, sessions.upper),
        ]
    }

    func putSession(_ session: UInt64, _ value: UnsafeRawBufferPointer) {
        let value = Bytes(copying: value)
        SessionKey.with(region, session) {
            changes.append(
                .put(.sessions, Bytes(copying: $0), value, version: 0, expiresAt: 0))
        }
    }

    func put(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64
    ) {
        changes.append(
            .put(
                space, Bytes(copying: key), Bytes(copying: value), version: version,
                expiresAt: expiresAt))
    }

    func finish(_ state: RegionState, descriptor: Bytes) {
        changes.append(.region(region, state))
        changes.append(.descriptor(region, descriptor))
        store.ingest(changes, of: region)
        changes = []
    }

    func abandon() { changes = [] }
}
