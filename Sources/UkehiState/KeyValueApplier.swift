// Hot path. The built-in state machine: an ordered key-value store.
//
//   ApplyBatch ── items ── entries ── records ──▶ one StoreBatch ──▶ commit
//                                                  data of all regions, and of each its state
//
// One store batch per apply batch, so that data and applied indexes are one atomic write however
// many regions take part (RULES 39). Plain puts and deletes do not read. How each command is
// carried out is in KeyValueApplier+Commands.swift.

import Synchronization
package import UkehiBase
package import UkehiEnvironment

/// Applies entries of key-value commands to a ``StateStore``.
package final class KeyValueApplier: Applier, @unchecked Sendable {
    // Safety: the table and the pool have their own locks, the store is thread-safe, and a region's
    // working state is touched by the one thread that applies it.
    package let store: any StateStore
    private let rare: RarePaths
    let sessionLimits: SessionLimits
    /// Told of each command of a session that is carried out and not answered from memory, by the thread
    /// that applies it: for who counts. Set before anything is applied.
    package var onCarriedOut:
        ((_ region: RegionID, _ index: LogIndex, _ session: UInt64, _ number: UInt32) -> Void)?
    /// Whether a write would have to wait now, of a model of a store that stalls: one in memory cannot say
    /// so when a batch is committed, since it has written by then. Set before anything is applied.
    package var stalls: (() -> Bool)?
    let regions = RegionTable<OpenRegion>()
    private let poolLock = Lock()
    private var pool: [any StoreBatch] = []

    /// Most bytes of keys and values in one page of a scan, unless one pair alone is larger.
    static let maxPageBytes = 1 << 20
    /// Pairs that a page passes over because they have expired.
    static let maxExpiredOfPage = 4096

    package init(
        store: any StateStore, rarePaths: RarePaths = .off,
        sessionLimits: SessionLimits = SessionLimits()
    ) {
        self.store = store
        self.sessionLimits = sessionLimits
        rare = rarePaths
        super.init(appliesInline: store.isInMemory)
    }

    package override func open(
        region: RegionID, system: Bool, range: KeyRange, epoch: RegionEpoch
    ) throws(StateError) -> LogIndex {
        let state: RegionState
        if let stored = try store.regionState(region) {
            state = try RegionState.decode(stored, region: region)
        } else {
            state = RegionState(epoch: epoch)
        }
        let opened = OpenRegion(
            id: region, space: system ? .system : .user, range: range, state: state)
        opened.sessions = try storedSessions(of: region, state)
        #if BugBank
            opened.stored = try store.regionDescriptor(region)
        #endif
        regions.insert(opened, region)
        return state.applied
    }

    // MARK: Apply

    package override func apply(_ batch: inout ApplyBatch) throws(StateError) {
        guard rare.takes(.itemAlone) else {
            return try apply(&batch.items, 0..<batch.items.count)
        }
        for position in batch.items.indices { try apply(&batch.items, position..<position + 1) }
    }

    package override func applyWithoutWaiting(
        _ batch: inout ApplyBatch, atMost limit: Int
    ) throws(StateError) -> Bool {
        guard Self.isSmallAndBlind(batch, limit), !(stalls?() ?? false) else { return false }
        do throws(StateError) {
            try apply(&batch.items, 0..<batch.items.count, mayWait: false)
            return true
        } catch {
            guard error.code == .stalled else { throw error }
            return false
        }
    }

    /// Whether a batch is a few puts and deletes, which read nothing; those of other kinds may.
    private static func isSmallAndBlind(_ batch: ApplyBatch, _ limit: Int) -> Bool {
        var bytes = 0
        for item in batch.items {
            // What divides a region cannot be taken back.
            guard item.change?.parts.isEmpty ?? true else { return false }
            for entry in item.entries {
                bytes += entry.recordBytes
                guard bytes <= limit else { return false }
                let isBlind = entry.data.withUnsafeBytes { payload in
                    guard !payload.isEmpty else { return true }
                    guard let header = try? EntryPayload(payload) else { return false }
                    guard header.kind == .commands else { return true }
                    var records = EntryRecords(header, in: payload)
                    while let record = records.next() {
                        let kind = record[CommandRecord.kindOffset]
                        guard
                            kind == CommandKind.put.rawValue || kind == CommandKind.delete.rawValue
                        else { return false }
                    }
                    return true
                }
                guard isBlind else { return false }
            }
        }
        return true
    }

    /// Applies some of a batch's items, as one atomic write. If it may not wait and the store stalls,
    /// throws `.stalled`, and nothing was done.
    func apply(
        _ items: inout [ApplyItem], _ range: Range<Int>, mayWait: Bool = true
    ) throws(StateError) {
        let batch = takeBatch()
        batch.begin()
        do throws(StateError) {
            for position in range {
                try apply(&items[position], to: batch)
            }
            try commit(batch, mayWait: mayWait)
        } catch {
            batch.discard()
            if error.code == .stalled {
                for position in range { regions[items[position].region]?.takeBack() }
            }
            throw error
        }
        for position in range {
            regions[items[position].region]?.publish()
            for part in items[position].change?.parts ?? [] where part.isHere {
                regions[part.region]?.publish()
            }
        }
        poolLock.withLock { pool.append(batch) }
    }

    private func takeBatch() -> any StoreBatch {
        if rare.takes(.batchPoolMissed) { return store.makeBatch() }
        return poolLock.withLock { pool.popLast() } ?? store.makeBatch()
    }

    private func commit(_ batch: any StoreBatch, mayWait: Bool) throws(StateError) {
        while true {
            do throws(StateError) {
                return try batch.commit()
            } catch {
                guard error.code == .stalled, mayWait else { throw error }
                // The store flushes or compacts. This thread may wait, and what queues behind it
                // makes the node refuse proposals.
                store.relieveStall()
            }
        }
    }

    private func apply(
        _ item: inout ApplyItem, to batch: any StoreBatch
    ) throws(StateError) {
        let region = try regions.find(item.region)
        var state = region.working
        var results = item.results
        item.results = ApplyResults()
        results.removeAll()
        if item.wantsResults { results.reserve(entries: item.entries.count, commands: 0) }
        for entry in item.entries {
            invariant(
                entry.index > state.applied,
                "\(item.region) applies \(entry.index) after \(state.applied)")
            if entry.kind == .normal, !entry.data.isEmpty {
                try apply(
                    entry, region, &state, batch, wantsResults: item.wantsResults, &results)
            }
            state.applied = entry.index
            state.appliedTerm = entry.term
            if item.wantsResults { results.endEntry() }
        }
        saveSessions(of: region, &state, batch)
        if let change = item.change {
            state.epoch = change.epoch
            state.hasDescriptor = true
            batch.putRegionDescriptor(item.region, change.descriptor)
            for part in change.parts { divide(part, from: region, state, batch) }
            #if BugBank
                if PlantedBug.configurationLate.isPlanted {
                    // Neither the descriptor nor the epoch is in this batch; the next one has the epoch.
                    var early = state
                    early.epoch = region.working.epoch
                    early.hasDescriptor = region.working.hasDescriptor
                    if let before = region.stored {
                        batch.putRegionDescriptor(item.region, before)
                    } else {
                        batch.removeRegion(item.region, grave: 0)
                    }
                    batch.putRegionState(item.region, early)
                    region.late = change
                    region.working = early
                    item.results = results
                    return
                }
            #endif
        }
        #if BugBank
            if let late = region.late {
                region.late = nil
                state.epoch = late.epoch
                state.hasDescriptor = true
                batch.putRegionDescriptor(item.region, late.descriptor)
                region.stored = late.descriptor
            }
        #endif
        region.working = state
        batch.putRegionState(item.region, state)
        // At once: what follows in this very batch is judged by the range that it finds.
        if let range = item.change?.range {
            let narrowed = region.having(range)
            // Before anybody finds it: the store has it as it was until the batch is committed.
            narrowed.waitForStore()
            regions.insert(narrowed, item.region)
        }
        #if BugBank
            if PlantedBug.appliedIndexBehind.isPlanted, let first = item.entries.first {
                state.applied = first.index - 1
                batch.putRegionState(item.region, state)
            }
        #endif
        item.results = results
    }

    private func apply(
        _ entry: Entry, _ region: OpenRegion, _ state: inout RegionState,
        _ batch: any StoreBatch, wantsResults: Bool, _ results: inout ApplyResults
    ) throws(StateError) {
        try entry.data.withUnsafeBytes { payload throws(StateError) in
            let header: EntryPayload
            do throws(EntryError) {
                header = try EntryPayload(payload)
                if header.kind == .admin { _ = try header.admin(payload) }
            } catch {
                throw StateError(error, entry, region.id)
            }
            state.loggedTime = max(state.loggedTime, header.loggedTime)
            guard header.kind == .commands else { return }
            // The version alone: a membership change does not move keys (RULES 22).
            guard header.epoch.version == state.epoch.version else {
                if wantsResults { results.append(.staleEpoch, times: header.count) }
                #if BugBank
                    if PlantedBug.staleEpochRemembered.isPlanted {
                        rememberStale(header, in: payload, region, state)
                    }
                #endif
                return
            }
            var records = EntryRecords(header, in: payload)
            var done = 0
            while done < header.count, let record = records.next() {
                let result = try run(record, entry.index, region, &state, batch)
                if wantsResults { results.append(result) }
                done += 1
            }
            if wantsResults, done < header.count {
                results.append(.invalid(.malformed), times: header.count - done)
            }
        }
    }

    // MARK: Splits

    package override var splitsRegions: Bool { true }

    package override func setRange(_ range: KeyRange, of id: RegionID) throws(StateError) {
        let region = try regions.find(id)
        guard region.lower != range.lower || region.upper != range.upper else { return }
        regions.insert(region.having(range), id)
    }

    /// A part's state goes with the batch that divides the region: both are there, or neither is. It goes on
    /// from the region's revision: a key's version never goes back, whatever region it is in.
    private func divide(
        _ part: RegionPart, from region: OpenRegion, _ state: RegionState, _ batch: any StoreBatch
    ) {
        guard part.isHere else {
            return part.range.lower.withUnsafeBytes { lower in
                part.range.upper.withUnsafeBytes { upper in
                    batch.deleteRange(region.space, lower, upper)
                }
            }
        }
        var begun = RegionState(
            applied: part.applied, appliedTerm: part.appliedTerm, revision: state.revision,
            loggedTime: state.loggedTime, epoch: part.epoch)
        #if BugBank
            if PlantedBug.versionsBeginAgain.isPlanted { begun.revision = 0 }
        #endif
        let sessions = copySessions(of: region, to: part.region, &begun, batch)
        #if BugBank
            let isAtomic = !PlantedBug.splitNotAtomic.isPlanted
        #else
            let isAtomic = true
        #endif
        if isAtomic { batch.putRegionState(part.region, begun) }
        let opened = OpenRegion(
            id: part.region, space: region.space, range: part.range, state: begun)
        opened.sessions = sessions
        opened.waitForStore()
        regions.insert(opened, part.region)
    }

    // MARK: Reads

    package override func read(
        region id: RegionID, _ request: ReadRequest, tier: ReadTier, now: UInt64
    ) -> ReadOutcome {
        if tier == .cacheOnly, rare.takes(.cacheMissed) { return .wouldBlock }
        do throws(StateError) {
            let region = try regions.find(id)
            switch request {
            case .get(let key):
                return try key.withUnsafeBytes { key throws(StateError) in
                    try get(key, region, tier, now)
                }
            case .scan(let lower, let upper, let limit):
                return try scan(lower, upper, limit, region, tier, now)
            case .query:
                throw StateError(
                    .unsupported,
                    "The region holds keys and values; it answers get and scan, not queries.")
            }
        } catch {
            return error.code == .wouldBlock ? .wouldBlock : .failed(error)
        }
    }

    private func get(
        _ key: UnsafeRawBufferPointer, _ region: OpenRegion, _ tier: ReadTier, _ now: UInt64
    ) throws(StateError) -> ReadOutcome {
        #if BugBank
            let looks = !PlantedBug.readsOutlastSplit.isPlanted
        #else
            let looks = true
        #endif
        guard !looks || region.contains(key) else { throw KeyValueApplier.outside(region.id) }
        let time = region.loggedTime.load(ordering: .acquiring)
        guard let stored = try store.get(region.space, key, tier: tier), stored.isLive(at: time)
        else { return .value(nil) }
        guard stored.isLive(at: now) else { return .due(stored.expiresAt) }
        return .value(VersionedValue(value: stored.value, version: stored.version))
    }

    private static func outside(_ region: RegionID) -> StateError {
        StateError(
            .outsideRegion, "Nothing was read: region \(region) does not own the key. Route again.")
    }

    private func scan(
        _ lower: Bytes, _ upper: Bytes, _ limit: Int, _ region: OpenRegion, _ tier: ReadTier,
        _ now: UInt64
    ) throws(StateError) -> ReadOutcome {
        guard lower.withUnsafeBytes({ region.contains($0) }) else {
            throw KeyValueApplier.outside(region.id)
        }
        guard upper.isEmpty || lower < upper else { return .scan(ScanPage(pairs: [], next: nil)) }
        let isClipped = !region.upper.isEmpty && (upper.isEmpty || region.upper < upper)
        let view = try store.openView(tier: tier)
        defer { view.close() }
        let time = try state(of: region, in: view).loggedTime
        // One arena a page: a page is held and released as one.
        var arena = ByteWriter(chunkCapacity: 16 << 10)
        var pairs: [KeyValue] = []
        var next: Bytes?
        var bytes = 0
        var expired = 0
        var due: UInt64 = 0
        let limit = max(limit, 1)
        try view.scan(region.space, from: lower, to: isClipped ? region.upper : upper) { entry in
            guard entry.expiresAt == 0 || entry.expiresAt > time else {
                // They take time, too; a page may end with none, and the next one goes on behind them.
                expired += 1
                guard expired > KeyValueApplier.maxExpiredOfPage else { return true }
                next = Bytes(copying: entry.key)
                return false
            }
            guard entry.expiresAt == 0 || entry.expiresAt > now else {
                due = entry.expiresAt
                return false
            }
            let size = entry.key.count + entry.value.count
            if pairs.count >= limit
                || (!pairs.isEmpty && bytes + size > KeyValueApplier.maxPageBytes)
                || (!pairs.isEmpty && rare.takes(.pageEndedEarly))
            {
                next = Bytes(copying: entry.key)
                return false
            }
            arena.append(entry.key)
            let key = arena.take()
            arena.append(entry.value)
            pairs.append(KeyValue(key: key, value: arena.take(), version: entry.version))
            bytes += size
            return true
        }
        if next == nil, isClipped { next = region.upper }
        guard due == 0 else { return .due(due) }
        return .scan(ScanPage(pairs: pairs, next: next))
    }

    /// The region's state in a view; a region that has applied nothing has none there yet.
    func state(
        of region: OpenRegion, in view: any StateView
    ) throws(StateError) -> RegionState {
        try state(of: region, stored: try view.regionState(region.id))
    }

    /// The region's state from its bytes in a store, if there are any yet.
    func state(
        of region: OpenRegion, stored: Bytes?
    ) throws(StateError) -> RegionState {
        guard let stored else {
            var state = region.published
            state = RegionState(epoch: state.epoch)
            return state
        }
        return try RegionState.decode(stored, region: region.id)
    }

    package override func digest(region id: RegionID) throws(StateError) -> RegionDigest {
        let region = try regions.find(id)
        try region.requireInStore()
        let view = try store.openView(tier: .once)
        defer { view.close() }
        let state = try state(of: region, in: view)
        var digest = StateDigest(state)
        if state.hasSessions {
            try view.scanSessions(of: id) { entry in
                digest.mixSession(entry)
                return true
            }
        }
        try view.scan(region.space, from: region.lower, to: region.upper) { entry in
            digest.mix(entry)
            return true
        }
        return RegionDigest(
            region: id, applied: state.applied, high: digest.high, low: digest.low)
    }

    // MARK: Snapshots

    package override var survivesRestart: Bool { store.survivesRestart }
    package override func givesSnapshots(of region: RegionID) -> Bool { true }

    package override func snapshotBytes(of region: RegionID, upTo limit: UInt64) -> UInt64? {
        measure(region, upTo: limit)
    }

    package override func size(
        of region: RegionID, limit: UInt64, written: UInt64
    ) -> KeyMarks? {
        look(region, limit: limit, written: written)
    }

    package override func writeSnapshot(
        of region: RegionID, to begin: (RegionState, Bytes?) throws -> SnapshotEncoder
    ) throws {
        try write(region, to: begin)
    }

    package override func install(
        _ snapshot: SnapshotFileReader, region: RegionID, descriptor: Bytes
    ) throws -> RegionState {
        try replace(region, by: snapshot, descriptor)
    }

    // MARK: Membership

    package override func descriptor(region: RegionID) throws(StateError) -> Bytes? {
        let stored = try store.regionDescriptor(region)
        guard (stored != nil) == (try regions.find(region).published.hasDescriptor) else {
            throw StateError(
                .corrupted,
                "The state of region \(region) is unreadable: it goes with a descriptor that is not "
                    + "there.")
        }
        return stored
    }

    package override func epoch(region id: RegionID) throws(StateError) -> RegionEpoch {
        try regions.find(id).published.epoch
    }

    package override func remove(
        region: RegionID, system: Bool, range: KeyRange, keeping kept: [KeyRange], grave: UInt64
    ) throws(StateError) {
        regions.remove(region)
        // Without a state there are no keys either: a region that has applied nothing has none.
        let hasState = try store.regionState(region) != nil
        let isBuried = try store.grave(region) == grave
        guard hasState || !isBuried else { return }
        let batch = takeBatch()
        batch.begin()
        for part in hasState ? range.subtracting(kept) : [] {
            part.lower.withUnsafeBytes { lower in
                part.upper.withUnsafeBytes { upper in
                    batch.deleteRange(system ? .system : .user, lower, upper)
                }
            }
        }
        if hasState { batch.deleteSessions(of: region) }
        batch.removeRegion(region, grave: grave)
        do throws(StateError) {
            try commit(batch, mayWait: true)
        } catch {
            batch.discard()
            throw error
        }
        poolLock.withLock { pool.append(batch) }
    }

    package override func isRemovalFlushed(region: RegionID, grave: UInt64) -> Bool {
        guard !rare.takes(.flushedUnknown) else { return false }
        do throws(StateError) {
            // That its state is not among what is flushed says nothing: it may never have been, and still come
            // back without its removal.
            return try store.flushedGrave(region) == grave
        } catch {
            // Keeps the region from coming back; the next write or read reports it.
            return false
        }
    }

    // MARK: Durability

    package override func flushedAppliedIndex(region id: RegionID) -> LogIndex {
        // An error here only keeps log longer; the next write or read reports it.
        guard !rare.takes(.flushedUnknown), let stored = try? store.flushedRegionState(id),
            let state = try? RegionState.decode(stored, region: id)
        else { return .zero }
        return state.applied
    }

    package override func requestFlush() {
        // A flush that cannot start shows as a failed write.
        try? store.requestFlush()
    }

    package override func close() { store.close() }
}
