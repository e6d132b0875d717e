// A region's state to a snapshot and from one: one pinned view for the state and the pairs (RULES 47),
// one ingestion for all that replaces them (RULES 48).

import UkehiBase

extension KeyValueApplier {
    func write(
        _ id: RegionID, to begin: (RegionState, Bytes?) throws -> SnapshotEncoder
    ) throws {
        let region = try regions.find(id)
        // Or the view would be of the region as it was, and the keys as they will be.
        try region.requireInStore()
        let view = try store.openLongView(
            of: id, region.space, KeyRange(lower: region.lower, upper: region.upper))
        defer { view.close() }
        var state = try state(of: region, stored: view.regionState)
        #if BugBank
            if PlantedBug.snapshotClaimsMore.isPlanted { state.applied = state.applied + 1 }
            if PlantedBug.sessionsNotInSnapshot.isPlanted {
                (state.sessions, state.horizon) = (0, 0)
            }
        #endif
        let encoder = try begin(state, view.regionDescriptor)
        var failure: SnapshotError?
        if state.sessions > 0 {
            try view.scanSessions { entry in
                do throws(SnapshotError) {
                    try encoder.appendSession(entry)
                    return true
                } catch {
                    failure = error
                    return false
                }
            }
            if let failure { throw failure }
        }
        try view.scan { entry in
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

    func measure(_ id: RegionID, upTo limit: UInt64) -> UInt64? {
        // An error here only keeps log longer; the next write or read reports it.
        guard let region = try? regions.find(id),
            let view = try? store.openLongView(
                of: id, region.space, KeyRange(lower: region.lower, upper: region.upper))
        else { return nil }
        defer { view.close() }
        var bytes: UInt64 = 0
        do throws(StateError) {
            try view.scanSessions { entry in
                bytes += UInt64(SnapshotRecord.sessionByteCount(entry.value))
                return bytes < limit
            }
            if bytes >= limit { return limit }
            try view.scan { entry in
                bytes += UInt64(SnapshotRecord.byteCount(entry))
                return bytes < limit
            }
        } catch { return nil }
        return min(bytes, limit)
    }

    func look(_ id: RegionID, limit: UInt64, written: UInt64) -> KeyMarks? {
        guard let region = try? regions.find(id) else { return nil }
        let range = KeyRange(lower: region.lower, upper: region.upper)
        if let estimate = store.fileBytes(region.space, range), estimate + written < limit / 2 {
            return KeyMarks(estimate: estimate)
        }
        // An error here only leaves the region as it is; the next write or read reports it.
        guard let view = try? store.openLongView(of: id, region.space, range) else { return nil }
        defer { view.close() }
        var marks = KeyMarks(step: limit / 16, most: 4 * limit)
        do throws(StateError) {
            try view.scan { marks.add(key: $0.key, valueBytes: $0.value.count) }
        } catch { return nil }
        return marks
    }

    func replace(
        _ id: RegionID, by snapshot: SnapshotFileReader, _ descriptor: Bytes
    ) throws -> RegionState {
        let region = try regions.find(id)
        invariant(
            snapshot.header.region == id,
            "a snapshot of \(snapshot.header.region) is installed as \(id)")
        let ingestion = try store.makeIngestion(
            of: id, region.space, KeyRange(lower: region.lower, upper: region.upper))
        do {
            var state: RegionState?
            var sessions: SessionTable?
            while let frame = try snapshot.next() {
                if let found = frame.state {
                    state = found
                    if found.hasSessions {
                        sessions = SessionTable(limits: sessionLimits, horizon: found.horizon)
                    }
                }
                try frame.forEachSession { session, value throws(StateError) in
                    try ingestion.putSession(session, value)
                    // The reader has seen that it can be read, and is the only one of its name.
                    if let entry = SessionEntry(stored: value) {
                        _ = sessions?.load(session, entry)
                    }
                }
                try frame.forEachPair { entry throws(StateError) in
                    try ingestion.put(
                        entry.key, entry.value, version: entry.version, expiresAt: entry.expiresAt)
                }
            }
            // The reader has seen to it that there is one.
            guard var state else { throw StateError(.corrupted, "A snapshot has no state.") }
            state.hasDescriptor = true
            try ingestion.finish(state, descriptor: descriptor)
            region.working = state
            region.sessions = sessions
            #if BugBank
                region.lateSessions = []
                region.lateCount = (state.horizon, state.sessions)
            #endif
            region.publish()
            return state
        } catch {
            ingestion.abandon()
            throw error
        }
    }
}
