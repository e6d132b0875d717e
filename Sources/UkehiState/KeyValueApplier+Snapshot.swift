// A region's state as a snapshot: one pinned view for the state and the pairs (RULES 47).

package import UkehiBase

extension KeyValueApplier {
    /// Writes the region's state as applied now; `begin` is given the state that the view holds and
    /// returns what takes its pairs.
    ///
    /// - Throws: ``StateError`` if the store cannot be read, ``SnapshotError``, or what `begin` throws.
    ///   What was written by then is no snapshot.
    package func writeSnapshot(
        of id: RegionID, to begin: (RegionState) throws -> SnapshotEncoder
    ) throws {
        let region = try regions.find(id)
        let view = try store.openView(tier: .any)
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
}
