// The regions an applier has open, by id.

import Synchronization
import UkehiBase

/// What an applier knows of one open region.
///
/// Safety: `working` is touched only by the thread that applies the region, one at a time; the
/// published copies are behind `lock`.
final class OpenRegion: @unchecked Sendable {
    let id: RegionID
    let space: StoreSpace
    let lower: Bytes
    let upper: Bytes
    /// The state including what the batch in hand has applied.
    var working: RegionState
    /// Its sessions, as `working`; nil: there never were any.
    var sessions: SessionTable?
    #if BugBank
        /// A planted bug: a change that waits for the next batch.
        var late: RegionChange?
        /// The descriptor in the store.
        var stored: Bytes?
        /// A planted bug: sessions that wait for the next batch, and what the state is to say of them.
        var lateSessions: [(UInt64, SessionEntry?)] = []
        var lateCount: (horizon: UInt64, sessions: UInt32) = (0, 0)
    #endif
    private let lock = Lock()
    private var publishedState: RegionState
    /// Logged time, published for point reads without the lock.
    let loggedTime: Atomic<UInt64>
    /// Whether the store holds the region as this object describes it. Not so from the moment in which its range
    /// changes until the batch is committed that changes it.
    private let isInStore = Atomic<Bool>(true)

    init(id: RegionID, space: StoreSpace, range: KeyRange, state: RegionState) {
        self.id = id
        self.space = space
        lower = range.lower
        upper = range.upper
        working = state
        publishedState = state
        loggedTime = Atomic(state.loggedTime)
    }

    /// It is what a batch makes of it that is not committed yet.
    func waitForStore() { isInStore.store(false, ordering: .releasing) }

    /// Throws while what the store holds of the region is not what this says: a view would be of other keys.
    func requireInStore() throws(StateError) {
        guard isInStore.load(ordering: .acquiring) else {
            throw StateError(.wouldBlock, "Region \(id) is being divided.")
        }
    }

    /// The same region with another range.
    func having(_ range: KeyRange) -> OpenRegion {
        let copy = OpenRegion(id: id, space: space, range: range, state: published)
        copy.working = working
        copy.sessions = sessions
        sessions = nil
        #if BugBank
            copy.late = late
            copy.stored = stored
            copy.lateSessions = lateSessions
            copy.lateCount = lateCount
        #endif
        return copy
    }

    /// The state as committed.
    var published: RegionState { lock.withLock { publishedState } }

    /// Forgets what the batch in hand has applied: it was not committed.
    func takeBack() {
        working = published
        sessions?.takeBack()
    }

    func publish() {
        sessions?.keep()
        lock.withLock { publishedState = working }
        isInStore.store(true, ordering: .releasing)
        loggedTime.store(working.loggedTime, ordering: .releasing)
    }

    /// Whether a key belongs to the region; most bounds of most regions are decided by a byte.
    @inline(__always)
    func contains(_ key: UnsafeRawBufferPointer) -> Bool {
        if !lower.isEmpty, lower.withUnsafeBytes({ order(key, $0) }) < 0 { return false }
        return upper.isEmpty || upper.withUnsafeBytes { order(key, $0) } < 0
    }

    /// Whether a range's end lies in the region; an empty one only where keys end.
    func containsEnd(_ end: UnsafeRawBufferPointer) -> Bool {
        if upper.isEmpty { return true }
        return !end.isEmpty && upper.withUnsafeBytes { order(end, $0) } <= 0
    }
}

/// Open regions; any thread.
final class RegionTable<Region: Sendable>: @unchecked Sendable {
    // Safety: `regions` is behind `lock`.
    private let lock = Lock()
    private var regions: [RegionID: Region] = [:]

    subscript(id: RegionID) -> Region? { lock.withLock { regions[id] } }

    func insert(_ region: Region, _ id: RegionID) { lock.withLock { regions[id] = region } }

    func remove(_ id: RegionID) { lock.withLock { regions[id] = nil } }

    func find(_ id: RegionID) throws(StateError) -> Region {
        guard let region = self[id] else {
            throw StateError(.unknownRegion, "Region \(id) is not open on this node.")
        }
        return region
    }
}
