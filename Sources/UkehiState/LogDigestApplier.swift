// Hot path. State that is nothing but a digest of the log: what measures consensus and log alone.
//
//   digest(i) = mix(digest(i - 1), index, term, payload)
//
// Replicas that have applied the same index agree on it only if they have applied the same bytes.
// The system region is a real key-value region in memory, since the node needs what it says.

package import UkehiBase

/// Applies nothing to user regions: counts commands and digests payloads.
package final class LogDigestApplier: Applier, @unchecked Sendable {
    // Safety: `regions` has its own lock, each chain its own.
    private final class Chain: @unchecked Sendable {
        // Safety: all but `id` is behind `lock`.
        let id: RegionID
        let lock = Lock()
        var state: RegionState
        var descriptor: Bytes?
        var digest = StateDigest()
        init(id: RegionID, epoch: RegionEpoch) {
            self.id = id
            state = RegionState(epoch: epoch)
        }
    }
    private let regions = RegionTable<Chain>()
    private let system = KeyValueApplier(store: MemoryStore())

    package init() { super.init(appliesInline: true) }

    package override func open(
        region: RegionID, system isSystem: Bool, range: KeyRange, epoch: RegionEpoch
    ) throws(StateError) -> LogIndex {
        if isSystem {
            return try system.open(region: region, system: true, range: range, epoch: epoch)
        }
        regions.insert(Chain(id: region, epoch: epoch), region)
        return .zero
    }

    package override func apply(_ batch: inout ApplyBatch) throws(StateError) {
        for position in batch.items.indices {
            guard let chain = regions[batch.items[position].region] else {
                try system.apply(&batch.items, position..<position + 1)
                continue
            }
            try apply(&batch.items[position], chain)
        }
    }

    private func apply(_ item: inout ApplyItem, _ chain: Chain) throws(StateError) {
        try chain.lock.withLock { () throws(StateError) in
            var results = ApplyResults()
            for entry in item.entries {
                chain.digest.mix(entry.index.rawValue, entry.term.rawValue)
                chain.digest.mix(entry.data)
                if entry.kind == .normal {
                    try count(entry, chain, wantsResults: item.wantsResults, &results)
                }
                chain.state.applied = entry.index
                if item.wantsResults { results.endEntry() }
            }
            if let change = item.change {
                chain.state.epoch = change.epoch
                chain.descriptor = change.descriptor
            }
            item.results = results
        }
    }

    /// Every command of an entry counts as carried out; records are not looked into.
    private func count(
        _ entry: Entry, _ chain: Chain, wantsResults: Bool, _ results: inout ApplyResults
    ) throws(StateError) {
        let header: EntryPayload
        do throws(EntryError) {
            guard let found = try EntryPayload.header(of: entry.data) else { return }
            header = found
        } catch {
            throw StateError(error, entry, chain.id)
        }
        guard header.kind == .commands else { return }
        guard header.epoch.version == chain.state.epoch.version else {
            if wantsResults { results.append(.staleEpoch, times: header.count) }
            return
        }
        if wantsResults {
            for _ in 0..<header.count {
                chain.state.revision += 1
                results.append(.applied(version: chain.state.revision))
            }
        } else {
            chain.state.revision += UInt64(header.count)
        }
    }

    package override func read(
        region: RegionID, _ request: ReadRequest, tier: ReadTier, now: UInt64
    ) -> ReadOutcome {
        guard regions[region] != nil else {
            return system.read(region: region, request, tier: tier, now: now)
        }
        // Nothing is kept, which is a true answer to every read of a key.
        switch request {
        case .get: return .value(nil)
        case .scan: return .scan(ScanPage(pairs: [], next: nil))
        case .query: return .query(Bytes())
        }
    }

    package override func digest(region: RegionID) throws(StateError) -> RegionDigest {
        guard let chain = regions[region] else { return try system.digest(region: region) }
        return chain.lock.withLock {
            RegionDigest(
                region: region, applied: chain.state.applied, high: chain.digest.high,
                low: chain.digest.low)
        }
    }

    package override func descriptor(region: RegionID) throws(StateError) -> Bytes? {
        guard let chain = regions[region] else { return try system.descriptor(region: region) }
        return chain.lock.withLock { chain.descriptor }
    }

    package override func epoch(region: RegionID) throws(StateError) -> RegionEpoch {
        guard let chain = regions[region] else { return try system.epoch(region: region) }
        return chain.lock.withLock { chain.state.epoch }
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
