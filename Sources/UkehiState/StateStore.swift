// Where key-value state lives. One ordered key space in which prefix bytes keep apart what must not
// mix:
//
//   0x00 name               the store's own facts: its format version
//   0x01 region u64 (BE)    region state (RegionState.swift)
//   0x01 region u64 (BE) 1  the region's descriptor, once an entry has changed it
//   0x01 region u64 (BE) 2  the grave: u64, which of the region's peers was removed here last
//   0x02 key                user keys
//   0x03 key                keys of the system region
//   0x04 region u64 (BE) session u64 (BE)
//                           what the region remembers of a session, as a value (SessionRecord.swift)
//
//   stored value | version u64, bit 63: an expiry follows | [expires at u64] | value |
//
// Because data and region state share one ordered space, everything a store has flushed is a prefix
// of the batches that were committed, and the flushed applied index tells which.

package import UkehiBase

/// The key spaces of a store; the raw value is the prefix byte.
package enum StoreSpace: UInt8, Sendable, Hashable {
    case user = 0x02
    case system = 0x03
    /// The sessions of all regions. Part of a region's state, and of none's range.
    case sessions = 0x04
}

/// A stored value, copied out of the store.
package struct StoredValue: Hashable, Sendable {
    package var value: Bytes
    package var version: UInt64
    /// Nanoseconds since 1970; 0: never.
    package var expiresAt: UInt64

    package init(value: Bytes, version: UInt64, expiresAt: UInt64) {
        self.value = value
        self.version = version
        self.expiresAt = expiresAt
    }

    /// Whether the value still counts at this logged time.
    package func isLive(at time: UInt64) -> Bool { expiresAt == 0 || expiresAt > time }
}

/// A pair seen during a scan; the pointers are valid only during the visit.
package struct StoredEntry {
    package let key: UnsafeRawBufferPointer
    package let value: UnsafeRawBufferPointer
    package let version: UInt64
    package let expiresAt: UInt64

    package init(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64
    ) {
        self.key = key
        self.value = value
        self.version = version
        self.expiresAt = expiresAt
    }
}

/// Ordered state with atomic batches. Implementations are thread-safe.
///
/// A protocol and not a base class: its implementations live in several modules, and only `open`
/// methods can be overridden in another one. Calls through it are per read and per write, not per
/// byte.
package protocol StateStore: AnyObject, Sendable {
    /// Whether reads and batches are quick enough to run on a lane.
    var isInMemory: Bool { get }
    /// A batch for one thread at a time, to be reused.
    func makeBatch() -> any StoreBatch
    /// The value of a key; nil if there is none.
    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, tier: ReadTier
    ) throws(StateError) -> StoredValue?
    /// A consistent view of what is committed now.
    func openView(tier: ReadTier) throws(StateError) -> any StateView
    /// A view for one long scan of a range, front to back, during which others go on.
    func openLongView(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any LongView
    /// Bytes that the store's files have of a range, near enough, known without reading them; nil: only
    /// reading it tells.
    func fileBytes(_ space: StoreSpace, _ range: KeyRange) -> UInt64?
    /// Whether what is flushed is there after the process has ended.
    var survivesRestart: Bool { get }
    /// The region's state as committed; nil for a region the store has never seen.
    func regionState(_ region: RegionID) throws(StateError) -> Bytes?
    /// The region's descriptor as committed; nil while nothing has changed it.
    func regionDescriptor(_ region: RegionID) throws(StateError) -> Bytes?
    /// Which of the region's peers was removed last; nil: none ever was.
    func grave(_ region: RegionID) throws(StateError) -> UInt64?
    /// The same as a crash now would leave it at least.
    func flushedGrave(_ region: RegionID) throws(StateError) -> UInt64?
    /// The region's state as a crash now would leave it at least.
    func flushedRegionState(_ region: RegionID) throws(StateError) -> Bytes?
    /// Begins to replace all that the store holds of a region; nothing changes until it is finished.
    func makeIngestion(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any StateIngestion
    /// Starts making everything committed so far durable; returns before it is.
    func requestFlush() throws(StateError)
    /// Called between attempts to commit a batch that was ``StateError/Code/stalled``: waits.
    func relieveStall()
    /// Makes everything durable where the store can, and closes it. No call may follow.
    func close()
}

extension StateStore {
    package func fileBytes(_ space: StoreSpace, _ range: KeyRange) -> UInt64? { nil }
}

/// Writes that are committed together. Used by one thread at a time, between `begin` and `commit`
/// or `discard`; an in-memory store is locked meanwhile.
package protocol StoreBatch: AnyObject {
    func begin()
    func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64)
    func delete(_ space: StoreSpace, _ key: UnsafeRawBufferPointer)
    /// Removes keys in `lower..<upper`; empty `upper`: to the end of the space.
    func deleteRange(
        _ space: StoreSpace, _ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer)
    /// The value of a key as the batch's writes so far leave it.
    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) throws(StateError) -> StoredValue?
    func putRegionState(_ region: RegionID, _ state: RegionState)
    /// Under a key of its own: an ordinary batch writes the state alone.
    func putRegionDescriptor(_ region: RegionID, _ descriptor: Bytes)
    /// Removes the region's state and descriptor, and notes whose they were; its keys are not touched.
    func removeRegion(_ region: RegionID, grave: UInt64)
    /// Makes the writes visible, all at once. After ``StateError/Code/stalled`` nothing was written
    /// and it may be called again; after any other error the batch is gone.
    func commit() throws(StateError)
    /// Ends the batch after a failed read. An in-memory store may keep what was written: the caller
    /// stops the node.
    func discard()
}

/// The keys and the state that replace a region's, whatever it had (RULES 48). Used by one thread, while
/// nobody applies to the region or reads it; ends with `finish` or `abandon`.
package protocol StateIngestion: AnyObject {
    /// Adds a pair of the region's range; keys ascend.
    func put(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64
    ) throws(StateError)
    /// Adds a session of the region; they ascend, and come before the pairs.
    func putSession(_ session: UInt64, _ value: UnsafeRawBufferPointer) throws(StateError)
    /// The region is what was put, `state`, and `descriptor` beside it. In a store that survives a crash all of it is durable
    /// when this returns, and after a crash before that none of it is there.
    func finish(_ state: RegionState, descriptor: Bytes) throws(StateError)
    /// Forgets what was put. The region is as it was where the store survives a crash; in one that does
    /// not it may be empty.
    func abandon()
}

/// A consistent view of one range, scanned once. Used by one thread.
package protocol LongView: AnyObject {
    /// The region's state, and its descriptor if it has changed, as when the view was opened.
    var regionState: Bytes? { get }
    var regionDescriptor: Bytes? { get }
    /// Visits the region's sessions, ascending, until `visit` says false; once, before the range.
    func scanSessions(_ visit: (StoredEntry) -> Bool) throws(StateError)
    /// Visits the range in key order until `visit` says false.
    func scan(_ visit: (StoredEntry) -> Bool) throws(StateError)
    func close()
}

extension StateView {
    /// This view as one of a range, for stores whose views hold nobody up.
    package func long(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any LongView {
        LongStateView(
            self, region, try regionState(region), try regionDescriptor(region), space, range)
    }
}

private final class LongStateView: LongView {
    private let view: any StateView
    let regionState: Bytes?
    let regionDescriptor: Bytes?
    private let region: RegionID
    private let space: StoreSpace
    private let range: KeyRange

    init(
        _ view: any StateView, _ region: RegionID, _ state: Bytes?, _ descriptor: Bytes?,
        _ space: StoreSpace, _ range: KeyRange
    ) {
        self.view = view
        self.region = region
        regionState = state
        regionDescriptor = descriptor
        self.space = space
        self.range = range
    }
    func scan(_ visit: (StoredEntry) -> Bool) throws(StateError) {
        try view.scan(space, from: range.lower, to: range.upper, visit)
    }
    func scanSessions(_ visit: (StoredEntry) -> Bool) throws(StateError) {
        try view.scanSessions(of: region, visit)
    }
    func close() { view.close() }
}

/// A consistent view of a store. An in-memory store is locked until `close`: keep it short.
package protocol StateView: AnyObject {
    func regionState(_ region: RegionID) throws(StateError) -> Bytes?
    func regionDescriptor(_ region: RegionID) throws(StateError) -> Bytes?
    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) throws(StateError) -> StoredValue?
    /// Visits `lower..<upper` in key order until `visit` says false; empty `upper`: to the end.
    func scan(
        _ space: StoreSpace, from lower: Bytes, to upper: Bytes, _ visit: (StoredEntry) -> Bool
    ) throws(StateError)
    func close()
}

extension StateView {
    /// Visits a region's sessions, ascending, until `visit` says false.
    func scanSessions(
        of region: RegionID, _ visit: (StoredEntry) -> Bool
    ) throws(StateError) {
        let range = SessionKey.range(of: region)
        try scan(.sessions, from: range.lower, to: range.upper, visit)
    }
}

extension StoreBatch {
    /// Writes what a region remembers of a session; nil: nothing any more.
    func putSession(_ region: RegionID, _ session: UInt64, _ entry: SessionEntry?) {
        SessionKey.with(region, session) { key in
            guard let entry else { return delete(.sessions, key) }
            var writer = ByteWriter(chunkCapacity: SessionEntry.maxBytes)
            entry.encode(into: &writer)
            writer.withUnsafeBytes { put(.sessions, key, $0, version: 0, expiresAt: 0) }
        }
    }

    /// Removes all that a region remembers of sessions.
    func deleteSessions(of region: RegionID) {
        let range = SessionKey.range(of: region)
        range.lower.withUnsafeBytes { lower in
            range.upper.withUnsafeBytes { deleteRange(.sessions, lower, $0) }
        }
    }
}
