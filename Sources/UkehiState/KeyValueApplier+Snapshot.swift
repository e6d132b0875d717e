// A region's state to a snapshot and from one: one pinned view for the state and the pairs (RULES 47),
// one ingestion for all that replaces them (RULES 48).

import UkehiBase

extension KeyValueApplier {
    func write(
        _ id: RegionID, to begin: (RegionState) throws -> SnapshotEncoder
    ) throws {
        let region = try regions.find(id)
        let view = try store.openView(tier: .once)
        defer { view.close() }
        let encoder = try begin(state(of: region, in: view))
        var failure: SnapshotError?
        try view.scan(region.space, from: region.lower, to: region.upper) { entry in
            do throws(SnapshotError) {
                try encoder.append(entry)
                return true
            } catch {
                failure = error
                return false
            }
        }
        if let failure { throw failure }
    }

    func replace(_ id: RegionID, by snapshot: SnapshotFileReader) throws -> RegionState {
        let region = try regions.find(id)
        invariant(
            snapshot.header.region == id,
            "a snapshot of \(snapshot.header.region) is installed as \(id)")
        let ingestion = try store.makeIngestion(
            of: id, region.space, KeyRange(lower: region.lower, upper: region.upper))
        do {
            var state: RegionState?
            while let frame = try snapshot.next() {
                if let found = frame.state { state = found }
                try frame.forEachPair { entry throws(StateError) in
                    try ingestion.put(
                        entry.key, entry.value, version: entry.version, expiresAt: entry.expiresAt)
                }
            }
            // The reader has seen to it that there is one.
            guard let state else { throw StateError(.corrupted, "A snapshot has no state.") }
            try ingestion.finish(state)
            region.working = state
            region.publish()
            return state
        } catch {
            ingestion.abandon()
            throw error
        }
    }
}
