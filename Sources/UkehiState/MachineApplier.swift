// Applies entries to embedders' state machines.

package import UkehiBase

/// Runs one ``StateMachine`` per region. State is in memory: after a restart the last snapshot that was
/// kept is restored, and the log replayed from there.
///
/// The system region is a key-value region in memory, as with every applier.
package final class MachineApplier: Applier, @unchecked Sendable {
    // Safety: `regions` has its own lock, each machine its own.
    private final class Running: @unchecked Sendable {
        // Safety: `region`'s state, the descriptor and the machine are used behind `lock`.
        let region: OpenRegion
        let range: KeyRange
        var machine: any StateMachine
        let lock = Lock()
        var descriptor: Bytes?
        init(region: OpenRegion, range: KeyRange, machine: any StateMachine) {
            self.region = region
            self.range = range
            self.machine = machine
        }
    }
    private let factory: @Sendable (RegionID, KeyRange) -> any StateMachine
    private let regions = RegionTable<Running>()
    private let system = KeyValueApplier(store: MemoryStore())

    /// - Parameters:
    ///   - appliesInline: Whether the machines are quick enough to run on a lane.
    ///   - factory: Makes a region's machine, empty.
    package init(
        appliesInline: Bool = true,
        factory: @escaping @Sendable (RegionID, KeyRange) -> any StateMachine
    ) {
        self.factory = factory
        super.init(appliesInline: appliesInline)
    }

    package override func open(
        region: RegionID, system isSystem: Bool, range: KeyRange, epoch: RegionEpoch
    ) throws(StateError) -> LogIndex {
        if isSystem {
            return try system.open(region: region, system: true, range: range, epoch: epoch)
        }
        let open = OpenRegion(
            id: region, space: .user, range: range, state: RegionState(epoch: epoch))
        regions.insert(Running(region: open, range: range, machine: factory(region, range)), region)
        return .zero
    }

    package override func apply(_ batch: inout ApplyBatch) throws(StateError) {
        for position in batch.items.indices {
            guard let running = regions[batch.items[position].region] else {
                try system.apply(&batch.items, position..<position + 1)
                continue
            }
            try apply(&batch.items[position], running)
        }
    }

    private func apply(_ item: inout ApplyItem, _ running: Running) throws(StateError) {
        try running.lock.withLock { () throws(StateError) in
            var results = ApplyResults()
            for entry in item.entries {
                if entry.kind == .normal, !entry.data.isEmpty {
                    try apply(entry, running, wantsResults: item.wantsResults, &results)
                }
                running.region.working.applied = entry.index
                running.region.working.appliedTerm = entry.term
                if item.wantsResults { results.endEntry() }
            }
            if let change = item.change {
                running.region.working.epoch = change.epoch
                running.descriptor = change.descriptor
            }
            running.region.publish()
            item.results = results
        }
    }

    private func apply(
        _ entry: Entry, _ running: Running, wantsResults: Bool, _ results: inout ApplyResults
    ) throws(StateError) {
        try entry.data.withUnsafeBytes { payload throws(StateError) in
            let header: EntryPayload
            do throws(EntryError) {
                header = try EntryPayload(payload)
                if header.kind == .admin { _ = try header.admin(payload) }
            } catch {
                throw StateError(error, entry, running.region.id)
            }
            let region = running.region
            region.working.loggedTime = max(region.working.loggedTime, header.loggedTime)
            guard header.kind == .commands else { return }
            guard header.epoch.version == region.working.epoch.version else {
                if wantsResults { results.append(.staleEpoch, times: header.count) }
                return
            }
            var records = EntryRecords(header, in: payload)
            var done = 0
            while done < header.count, let record = records.next() {
                let result = run(record, in: payload, entry, running)
                if wantsResults { results.append(result) }
                done += 1
            }
            if wantsResults, done < header.count {
                results.append(.invalid(.malformed), times: header.count - done)
            }
        }
    }

    private func run(
        _ record: UnsafeRawBufferPointer, in payload: UnsafeRawBufferPointer, _ entry: Entry,
        _ running: Running
    ) -> CommandResult {
        let view: CommandView
        do {
            view = try CommandView(record: record)
            try view.checkBody()
        } catch {
            return .invalid(error)
        }
        // Nothing is remembered of sessions: what asks to be carried out once at most is not at all.
        guard view.kind == .user, view.session == 0 else { return .invalid(.unsupported) }
        guard running.region.contains(view.key) else { return .invalid(.outsideRegion) }
        running.region.working.revision += 1
        let state = running.region.working
        let context = CommandContext(
            region: running.region.id, index: entry.index, term: entry.term,
            time: state.loggedTime, revision: state.revision,
            key: MachineApplier.slice(view.key, of: payload, entry.data))
        return .response(
            running.machine.apply(MachineApplier.slice(view.body, of: payload, entry.data), context)
        )
    }

    /// The part of `data` that `part` points at.
    private static func slice(
        _ part: UnsafeRawBufferPointer, of whole: UnsafeRawBufferPointer, _ data: Bytes
    ) -> Bytes {
        guard !part.isEmpty, let base = whole.baseAddress, let start = part.baseAddress else {
            return Bytes()
        }
        return data[start - base..<start - base + part.count]
    }

    package override func read(
        region: RegionID, _ request: ReadRequest, tier: ReadTier, now: UInt64
    ) -> ReadOutcome {
        guard let running = regions[region] else {
            return system.read(region: region, request, tier: tier, now: now)
        }
        guard case .query(_, let body) = request else {
            return .failed(
                StateError(
                    .unsupported,
                    "The region runs a state machine of its own; it answers queries, not get and "
                        + "scan."))
        }
        return .query(running.lock.withLock { running.machine.query(body) })
    }

    package override func digest(region id: RegionID) throws(StateError) -> RegionDigest {
        guard let running = regions[id] else { return try system.digest(region: id) }
        let (state, copy) = running.lock.withLock {
            (running.region.working, running.machine.copyForSnapshot())
        }
        let writer = DigestingWriter()
        copy.writeSnapshot(to: writer)
        var digest = writer.finish()
        digest.mix(state.revision, state.loggedTime)
        digest.mix(state.epoch.confVersion, state.epoch.version)
        return RegionDigest(region: id, applied: state.applied, high: digest.high, low: digest.low)
    }

    // MARK: Snapshots

    /// Of a machine's state nobody knows before it is written.
    package override func snapshotBytes(of id: RegionID, upTo limit: UInt64) -> UInt64? {
        regions[id] == nil ? system.snapshotBytes(of: id, upTo: limit) : nil
    }

    package override func givesSnapshots(of region: RegionID) -> Bool { true }
    package override var survivesRestart: Bool { false }

    package override func content(of region: RegionID) -> SnapshotContent {
        regions[region] == nil ? .keyValue : .machine
    }

    package override func writeSnapshot(
        of id: RegionID, to begin: (RegionState, Bytes?) throws -> SnapshotEncoder
    ) throws {
        guard let running = regions[id] else {
            return try system.writeSnapshot(of: id, to: begin)
        }
        // Written outside the lock: commands go on.
        let (state, descriptor, copy) = running.lock.withLock {
            (running.region.working, running.descriptor, running.machine.copyForSnapshot())
        }
        try PieceWriter.write(copy, to: begin(state, descriptor))
    }

    package override func install(
        _ snapshot: SnapshotFileReader, region id: RegionID, descriptor: Bytes
    ) throws -> RegionState {
        guard let running = regions[id] else {
            return try system.install(snapshot, region: id, descriptor: descriptor)
        }
        let machine = factory(id, running.range)
        let reader = PieceReader(snapshot)
        try machine.restore(from: reader)
        var state = try reader.finish()
        state.hasDescriptor = true
        running.lock.withLock {
            running.machine = machine
            running.descriptor = descriptor
            running.region.working = state
            running.region.publish()
        }
        return state
    }

    package override func descriptor(region: RegionID) throws(StateError) -> Bytes? {
        guard let running = regions[region] else { return try system.descriptor(region: region) }
        return running.lock.withLock { running.descriptor }
    }

    package override func epoch(region: RegionID) throws(StateError) -> RegionEpoch {
        guard let running = regions[region] else { return try system.epoch(region: region) }
        return running.lock.withLock { running.region.working.epoch }
    }

    package override func remove(
        region: RegionID, system isSystem: Bool, range: KeyRange, keeping kept: [KeyRange],
        grave: UInt64
    ) throws(StateError) {
        guard isSystem else { return regions.remove(region) }
        try system.remove(region: region, system: true, range: range, keeping: kept, grave: grave)
    }

    /// There is nothing that a crash could leave.
    package override func isRemovalFlushed(region: RegionID, grave: UInt64) -> Bool { true }

    package override func flushedAppliedIndex(region: RegionID) -> LogIndex { .zero }
    package override func close() { system.close() }
}

/// Digests a snapshot in blocks of one size, so that how it was cut into pieces does not count.
private final class DigestingWriter: SnapshotWriter {
    private static let blockBytes = 64 << 10
    private var digest = StateDigest()
    private var block = ByteWriter(chunkCapacity: blockBytes)

    func write(_ bytes: Bytes) {
        var rest = bytes
        while !rest.isEmpty {
            let taken = min(rest.count, Self.blockBytes - block.count)
            block.append(rest[0..<taken])
            rest = rest[taken..<rest.count]
            if block.count == Self.blockBytes { seal() }
        }
    }

    private func seal() {
        block.withUnsafeBytes { digest.mix($0) }
        block.discard()
    }

    func finish() -> StateDigest {
        seal()
        return digest
    }
}
