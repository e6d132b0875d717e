// Hot path. State in memory, for data that fits. Nothing of it survives the process: a restart begins
// with the snapshots that the node keeps, and replays the log from there.
//
// One lock: a batch holds it from begin to commit, so that lanes sharing the store take turns per
// batch and readers see whole batches.

package import UkehiBase

/// A ``StateStore`` of radix trees.
package final class MemoryStore: StateStore, @unchecked Sendable {
    // Safety: everything below is behind `lock`; a batch or view that holds it hands the store's
    // insides to one thread.
    fileprivate let lock = Lock()
    fileprivate let user = RadixTree()
    fileprivate let system = RadixTree()
    fileprivate let sessions = RadixTree()
    fileprivate var regions: [RegionID: RegionState] = [:]
    fileprivate var descriptors: [RegionID: Bytes] = [:]
    /// Scans that stand still while the store goes on.
    fileprivate var pinned: [PinnedRange] = []
    fileprivate var graves: [RegionID: UInt64] = [:]

    package init() {}

    package var isInMemory: Bool { true }
    package var survivesRestart: Bool { false }

    fileprivate func tree(_ space: StoreSpace) -> RadixTree {
        switch space {
        case .user: user
        case .system: system
        case .sessions: sessions
        }
    }

    /// Keys of the user and of the system region.
    package var keyCount: Int { lock.withLock { user.count + system.count } }

    package func makeBatch() -> any StoreBatch { MemoryBatch(self) }

    package func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, tier: ReadTier
    ) -> StoredValue? {
        lock.lock()
        defer { lock.unlock() }
        return tree(space).find(key)?.stored
    }

    package func openView(tier: ReadTier) -> any StateView {
        lock.lock()
        return MemoryView(self)
    }

    package func openLongView(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) -> any LongView {
        let own = SessionKey.range(of: region)
        let pin = PinnedRange(space, range.lower, range.upper)
        return lock.withLock {
            let state = regions[region]
            var sessionPin: PinnedRange?
            if state?.hasSessions ?? false {
                let pin = PinnedRange(.sessions, own.lower, own.upper)
                pinned.append(pin)
                sessionPin = pin
            }
            pinned.append(pin)
            return MemoryLongView(
                self, pin, sessionPin, state?.encoded(), descriptors[region])
        }
    }

    package func regionState(_ region: RegionID) -> Bytes? {
        lock.withLock { regions[region]?.encoded() }
    }

    package func makeIngestion(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) -> any StateIngestion { MemoryIngestion(self, region, space, range) }
    package func regionDescriptor(_ region: RegionID) -> Bytes? {
        lock.withLock { descriptors[region] }
    }

    package func grave(_ region: RegionID) -> UInt64? { lock.withLock { graves[region] } }
    /// Nothing survives the process: neither what was removed.
    package func flushedGrave(_ region: RegionID) -> UInt64? { grave(region) }

    /// Writes everything to another store's open batch.
    func copyAll(to batch: any StoreBatch) {
        lock.withLock {
            for space in [StoreSpace.user, .system, .sessions] {
                var cursor = RadixCursor(
                    tree(space), from: UnsafeRawBufferPointer(start: nil, count: 0))
                while let leaf = cursor.next() {
                    batch.put(
                        space, leaf.key, leaf.value, version: leaf.version,
                        expiresAt: leaf.expiresAt)
                }
            }
            for region in graves.keys.sorted() {
                if let grave = graves[region] { batch.removeRegion(region, grave: grave) }
            }
            for region in regions.keys.sorted() {
                if let state = regions[region] { batch.putRegionState(region, state) }
                if let bytes = descriptors[region] { batch.putRegionDescriptor(region, bytes) }
            }
        }
    }

    package func flushedRegionState(_ region: RegionID) -> Bytes? { nil }
    package func requestFlush() {}
    package func relieveStall() {}

    package func close() {
        lock.withLock {
            user.removeAll()
            system.removeAll()
            sessions.removeAll()
            regions = [:]
            descriptors = [:]
            graves = [:]
        }
    }
}

extension Leaf {
    /// The value, copied out: a slice of the leaf would change with the next put.
    fileprivate var stored: StoredValue {
        StoredValue(value: Bytes(copying: value), version: version, expiresAt: expiresAt)
    }
}

/// Writes through to the trees under the store's lock.
private final class MemoryBatch: StoreBatch {
    private let store: MemoryStore
    private var isOpen = false

    init(_ store: MemoryStore) { self.store = store }

    func begin() {
        store.lock.lock()
        isOpen = true
    }
    func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64
    ) {
        let tree = store.tree(space)
        for pin in store.pinned where pin.space == space { pin.willChange(key, in: tree) }
        tree.put(key, value, version: version, expiresAt: expiresAt)
    }
    func delete(_ space: StoreSpace, _ key: UnsafeRawBufferPointer) {
        let tree = store.tree(space)
        for pin in store.pinned where pin.space == space { pin.willChange(key, in: tree) }
        tree.remove(key)
    }
    func deleteRange(
        _ space: StoreSpace, _ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer
    ) {
        let tree = store.tree(space)
        for pin in store.pinned where pin.space == space {
            pin.willRemove(lower, upper, in: tree)
        }
        tree.removeRange(lower, upper)
    }
    func get(_ space: StoreSpace, _ key: UnsafeRawBufferPointer) -> StoredValue? {
        store.tree(space).find(key)?.stored
    }
    func putRegionState(_ region: RegionID, _ state: RegionState) {
        store.regions[region] = state
    }
    func putRegionDescriptor(_ region: RegionID, _ descriptor: Bytes) {
        store.descriptors[region] = descriptor
    }
    func removeRegion(_ region: RegionID, grave: UInt64) {
        store.graves[region] = grave
        store.regions[region] = nil
        store.descriptors[region] = nil
    }
    func commit() { discard() }
    func discard() {
        guard isOpen else { return }
        isOpen = false
        store.lock.unlock()
    }
}

/// Replaces a region's keys piece by piece: nobody looks at them meanwhile, and a crash loses all.
private final class MemoryIngestion: StateIngestion {
    private static let pairsPerTurn = 256
    private let store: MemoryStore
    private let region: RegionID
    private let space: StoreSpace
    private let batch: MemoryBatch
    private var pairs = 0

    init(_ store: MemoryStore, _ region: RegionID, _ space: StoreSpace, _ range: KeyRange) {
        self.store = store
        self.region = region
        self.space = space
        batch = MemoryBatch(store)
        batch.begin()
        store.regions[region] = nil
        range.lower.withUnsafeBytes { lower in
            range.upper.withUnsafeBytes { batch.deleteRange(space, lower, $0) }
        }
        batch.deleteSessions(of: region)
        batch.commit()
    }

    func put(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64
    ) {
        put(space, key, value, version: version, expiresAt: expiresAt)
    }

    func putSession(_ session: UInt64, _ value: UnsafeRawBufferPointer) {
        SessionKey.with(region, session) {
            put(.sessions, $0, value, version: 0, expiresAt: 0)
        }
    }

    private func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64
    ) {
        // Other regions get their turn in between.
        if pairs == 0 { batch.begin() }
        batch.put(space, key, value, version: version, expiresAt: expiresAt)
        pairs += 1
        if pairs == Self.pairsPerTurn { abandon() }
    }

    func finish(_ state: RegionState, descriptor: Bytes) {
        if pairs == 0 { batch.begin() }
        batch.putRegionState(region, state)
        batch.putRegionDescriptor(region, descriptor)
        batch.commit()
        pairs = 0
    }

    func abandon() {
        batch.discard()
        pairs = 0
    }
}

/// Holds the store's lock for a page at a time.
private final class MemoryLongView: LongView {
    private let store: MemoryStore
    private let pin: PinnedRange
    /// Nil: the region has no sessions.
    private let sessionPin: PinnedRange?
    let regionState: Bytes?
    let regionDescriptor: Bytes?

    init(
        _ store: MemoryStore, _ pin: PinnedRange, _ sessionPin: PinnedRange?, _ state: Bytes?,
        _ descriptor: Bytes?
    ) {
        self.store = store
        self.pin = pin
        self.sessionPin = sessionPin
        regionState = state
        regionDescriptor = descriptor
    }

    func scanSessions(_ visit: (StoredEntry) -> Bool) {
        if let sessionPin { scan(sessionPin, visit) }
    }

    func scan(_ visit: (StoredEntry) -> Bool) { scan(pin, visit) }

    private func scan(_ pin: PinnedRange, _ visit: (StoredEntry) -> Bool) {
        var page = PinnedPage()
        while pin.next != nil {
            store.lock.withLock { pin.turn(&page, over: store.tree(pin.space)) }
            guard page.visit(visit) else { return }
        }
    }

    func close() {
        store.lock.withLock { store.pinned.removeAll { $0 === pin || $0 === sessionPin } }
    }
}

/// Holds the store's lock until closed.
private final class MemoryView: StateView {
    private let store: MemoryStore
    private var isOpen = true

    init(_ store: MemoryStore) { self.store = store }

    func regionState(_ region: RegionID) -> Bytes? { store.regions[region]?.encoded() }
    func regionDescriptor(_ region: RegionID) -> Bytes? { store.descriptors[region] }
    func get(_ space: StoreSpace, _ key: UnsafeRawBufferPointer) -> StoredValue? {
        store.tree(space).find(key)?.stored
    }
    func scan(
        _ space: StoreSpace, from lower: Bytes, to upper: Bytes, _ visit: (StoredEntry) -> Bool
    ) {
        lower.withUnsafeBytes { lower in
            upper.withUnsafeBytes { upper in
                var cursor = RadixCursor(store.tree(space), from: lower)
                while let leaf = cursor.next() {
                    guard upper.isEmpty || order(leaf.key, upper) < 0 else { return }
                    let entry = StoredEntry(
                        key: leaf.key, value: leaf.value, version: leaf.version,
                        expiresAt: leaf.expiresAt)
                    guard visit(entry) else { return }
                }
            }
        }
    }
    func close() {
        guard isOpen else { return }
        isOpen = false
        store.lock.unlock()
    }
}
