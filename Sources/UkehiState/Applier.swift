// What a node applies committed entries with, and reads from.

package import UkehiBase

/// Results of an item's commands, grouped by entry, in two arrays however many entries there are.
package struct ApplyResults: Sendable {
    package private(set) var flat: [CommandResult] = []
    private var ends: [Int] = []

    package init() {}

    /// Entries whose results are complete.
    package var count: Int { ends.count }

    /// Results of the `position`-th entry's commands, in their order; empty for an entry without
    /// commands, such as an administrative one.
    package subscript(position: Int) -> ArraySlice<CommandResult> {
        flat[(position == 0 ? 0 : ends[position - 1])..<ends[position]]
    }

    mutating func reserve(entries: Int, commands: Int) {
        ends.reserveCapacity(entries)
        flat.reserveCapacity(commands)
    }
    @inline(__always)
    mutating func append(_ result: CommandResult) { flat.append(result) }
    mutating func append(_ result: CommandResult, times: Int) {
        for _ in 0..<times { flat.append(result) }
    }
    mutating func endEntry() { ends.append(flat.count) }
    mutating func removeAll() {
        flat.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
    }
}

/// A region's members, or its range, as a committed entry leaves them.
package struct RegionChange: Hashable, Sendable {
    package var epoch: RegionEpoch
    /// The region's descriptor; what it says is not the state's business.
    package var descriptor: Bytes
    /// What the region holds from now on, where that changes: what `parts` leave.
    package var range: KeyRange?
    /// New regions that come out of this one.
    package var parts: [RegionPart]

    package init(
        epoch: RegionEpoch, descriptor: Bytes, range: KeyRange? = nil, parts: [RegionPart] = []
    ) {
        self.epoch = epoch
        self.descriptor = descriptor
        self.range = range
        self.parts = parts
    }
}

/// A region that comes out of another one: it takes over keys, revision and logged time (RULES 26).
package struct RegionPart: Hashable, Sendable {
    package var region: RegionID
    package var range: KeyRange
    package var epoch: RegionEpoch
    /// Where its log begins: as if so much had been applied.
    package var applied: LogIndex
    package var appliedTerm: Term
    /// Whether this node has a peer of it. One that had a peer, which is removed since, drops the keys again
    /// as it replays what was before.
    package var isHere: Bool

    package init(
        region: RegionID, range: KeyRange, epoch: RegionEpoch, applied: LogIndex,
        appliedTerm: Term, isHere: Bool
    ) {
        self.region = region
        self.range = range
        self.epoch = epoch
        self.applied = applied
        self.appliedTerm = appliedTerm
        self.isHere = isHere
    }
}

/// Consecutive committed entries of one region.
package struct ApplyItem: Sendable {
    package var region: RegionID
    package var entries: [Entry]
    /// Whether somebody here waits for results; otherwise `results` stays empty.
    package var wantsResults: Bool
    /// What the item's last entry makes of the region, stored in the same atomic write as the applied
    /// index (RULES 39); nil: the region stays as it was.
    package var change: RegionChange?
    /// Filled by apply: one group per entry if `wantsResults`.
    package var results = ApplyResults()

    package init(
        region: RegionID, entries: [Entry], wantsResults: Bool, change: RegionChange? = nil
    ) {
        self.region = region
        self.entries = entries
        self.wantsResults = wantsResults
        self.change = change
    }
}

/// What one pass has to apply, in order.
package struct ApplyBatch: Sendable {
    package var items: [ApplyItem] = []

    package init() {}
    package var isEmpty: Bool { items.isEmpty }

    package mutating func append(
        region: RegionID, entries: [Entry], wantsResults: Bool, change: RegionChange? = nil
    ) {
        items.append(
            ApplyItem(
                region: region, entries: entries, wantsResults: wantsResults, change: change))
    }
    package mutating func removeAll(keepingCapacity: Bool) {
        items.removeAll(keepingCapacity: keepingCapacity)
    }
}

/// Applies the committed entries of all regions of a node, and answers reads of what is applied.
///
/// A region's entries are applied in order by one thread at a time; reads and digests may come from
/// any thread. An error of ``apply(_:)`` is fatal to the node: what it covers was not applied, and
/// going on would leave a hole.
open class Applier: @unchecked Sendable {
    // Safety: no mutable state here; subclasses guard their own.

    /// Whether apply is quick enough for the lane itself; otherwise it runs on an apply thread.
    package let appliesInline: Bool

    init(appliesInline: Bool) { self.appliesInline = appliesInline }

    /// Makes a region known and returns its applied index: the log is replayed from there on.
    /// `epoch` and `range` are the descriptor's; a stored epoch, if there is one, stands above it.
    package func open(
        region: RegionID, system: Bool, range: KeyRange, epoch: RegionEpoch
    ) throws(StateError) -> LogIndex {
        fatalError("an applier opens regions")
    }

    /// Whether a change may divide a region.
    package var splitsRegions: Bool { false }

    /// The open region holds the keys of `range` only, as its descriptor says; nothing is applied to it
    /// meanwhile.
    package func setRange(_ range: KeyRange, of region: RegionID) throws(StateError) {}

    /// The region's descriptor as of its applied index; nil while nothing has changed it since the
    /// region began. The region is open.
    package func descriptor(region: RegionID) throws(StateError) -> Bytes? {
        fatalError("an applier keeps descriptors")
    }

    /// The region's epoch as of its applied index. The region is open.
    package func epoch(region: RegionID) throws(StateError) -> RegionEpoch {
        fatalError("an applier keeps epochs")
    }

    /// Takes a region that is gone from this node out of the state: its keys in `range` but for those
    /// in `kept`, which are other regions' now (RULES 20), and what is kept of it beside them, all in
    /// one atomic write. Can be repeated. It must not be applied to meanwhile, and is open no more.
    ///
    /// - Parameter grave: Names what is removed: another number for each peer of the region that was here.
    package func remove(
        region: RegionID, system: Bool, range: KeyRange, keeping kept: [KeyRange], grave: UInt64
    ) throws(StateError) {
        fatalError("an applier removes regions")
    }

    /// Whether no crash can bring back what ``remove(region:system:range:keeping:grave:)`` took away.
    package func isRemovalFlushed(region: RegionID, grave: UInt64) -> Bool {
        fatalError("an applier knows what is flushed")
    }

    /// Applies every item, in order, the applied indexes in the same atomic write as the data.
    package func apply(_ batch: inout ApplyBatch) throws(StateError) {
        fatalError("an applier applies")
    }

    /// Applies a batch where waiting is not allowed: one that is small, reads nothing, and is taken by
    /// the store at once. A lone write then needs no other thread.
    ///
    /// - Parameter limit: Bytes of entries that are few.
    /// - Returns: False if nothing was done; the batch is as it was, for ``apply(_:)``.
    package func applyWithoutWaiting(
        _ batch: inout ApplyBatch, atMost limit: Int
    ) throws(StateError) -> Bool { false }

    /// Reads what is applied; the caller has seen to it that this includes the read index.
    ///
    /// - Parameter now: The leader's clock: what has expired by it, and not by the region's logged time, is not
    ///   answered but ``ReadOutcome/due(_:)``. Zero: logged time alone counts.
    package func read(
        region: RegionID, _ request: ReadRequest, tier: ReadTier, now: UInt64
    ) -> ReadOutcome {
        fatalError("an applier reads")
    }

    package final func read(
        region: RegionID, _ request: ReadRequest, tier: ReadTier
    ) -> ReadOutcome {
        read(region: region, request, tier: tier, now: 0)
    }

    /// The region's digest at its applied index. Reads all of the region's data: off the lane
    /// unless ``appliesInline``.
    package func digest(region: RegionID) throws(StateError) -> RegionDigest {
        fatalError("an applier digests")
    }

    /// The index up to which the region's state survives a crash, at least; zero if it never does.
    package func flushedAppliedIndex(region: RegionID) -> LogIndex {
        fatalError("an applier knows what is flushed")
    }

    /// Whether what is flushed is there after a restart; otherwise snapshots are kept in its place.
    package var survivesRestart: Bool { false }

    /// What a snapshot of the region holds.
    package func content(of region: RegionID) -> SnapshotContent { .keyValue }

    /// Whether the region's state can be written as a snapshot, and replaced by one.
    package func givesSnapshots(of region: RegionID) -> Bool { false }

    /// Bytes of records that a snapshot of the region would hold now; `limit` if that is less, and then no
    /// more than about `limit` bytes are read. Nil where it cannot be known. Off the lane.
    package func snapshotBytes(of region: RegionID, upTo limit: UInt64) -> UInt64? { nil }

    /// How large the region is, and where it could be divided in parts of half of `limit`; nil where it cannot
    /// be known. Looks closer only where it may have reached half of the limit, and then at four times the
    /// limit at most. Off the lane.
    ///
    /// - Parameter written: Bytes that were written to it lately, and may not be in the store's files yet.
    package func size(of region: RegionID, limit: UInt64, written: UInt64) -> KeyMarks? { nil }

    /// Writes the region's state as applied at one moment between now and the return; `begin` is given
    /// that state, and the descriptor of that moment unless it is still the first one, and returns what
    /// takes its pairs. Takes long: off the lane.
    ///
    /// - Throws: ``StateError`` if the store cannot be read, ``SnapshotError``, or what `begin` throws.
    ///   What was written by then is no snapshot.
    package func writeSnapshot(
        of region: RegionID, to begin: (RegionState, _ descriptor: Bytes?) throws -> SnapshotEncoder
    ) throws {
        fatalError("an applier writes snapshots of what it says it does")
    }

    /// Replaces the region's state by a snapshot's, at once and durably where the store is durable
    /// (RULES 48). Nothing is applied to the region or read of it meanwhile. Takes long: off the lane.
    ///
    /// - Parameters:
    ///   - snapshot: A whole snapshot of this region, read from its beginning.
    ///   - descriptor: The region as its header has it.
    /// - Returns: The state as it is now.
    /// - Throws: ``SnapshotError`` if the file cannot be read to its end, ``StateError`` if the store
    ///   failed. The region then has its old state, or in memory none that counts.
    @discardableResult
    package func install(
        _ snapshot: SnapshotFileReader, region: RegionID, descriptor: Bytes
    ) throws -> RegionState {
        fatalError("an applier installs snapshots of what it says it does")
    }

    /// Starts making what is applied durable.
    package func requestFlush() {}

    /// Makes what is applied durable, if it can be, and ends.
    package func close() {}
}
