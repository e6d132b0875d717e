// Commands of sessions (SessionTable.swift), and a region's sessions in its store: changed in the batch
// that changes the data (RULES 39), one key for each session that has changed.

import UkehiBase

extension KeyValueApplier {
    /// Carries out a command unless it was before. The table is asked first of all: what was carried out is
    /// answered alike wherever the region's range ends now.
    func runInSession(
        _ view: CommandView, _ index: LogIndex, _ region: OpenRegion,
        _ state: inout RegionState, _ batch: any StoreBatch
    ) throws(StateError) -> CommandResult {
        // The view was not made without a right one.
        guard let sequence = SessionSequence(rawValue: view.sequence) else {
            return .invalid(.malformed)
        }
        if region.sessions == nil { region.sessions = SessionTable(limits: sessionLimits) }
        switch region.sessions?.judge(view.session, sequence, time: state.loggedTime) {
        case .remembered(let result): return result
        case .expired(let openAt): return .sessionExpired(openAt: openAt)
        case .fresh, nil: break
        }
        let result = try carryOut(view, region, &state, batch)
        onCarriedOut?(region.id, index, view.session, sequence.number)
        region.sessions?.remember(view.session, sequence, result, time: state.loggedTime)
        return result
    }

    // MARK: The store

    /// What the store has of a region's sessions; nil if there never were any.
    func storedSessions(
        of region: RegionID, _ state: RegionState
    ) throws(StateError) -> SessionTable? {
        guard state.hasSessions else { return nil }
        var table = SessionTable(limits: sessionLimits, horizon: state.horizon)
        guard state.sessions > 0 else { return table }
        let view = try store.openView(tier: .any)
        defer { view.close() }
        var isReadable = true
        try view.scanSessions(of: region) { stored in
            isReadable = table.load(stored)
            return isReadable
        }
        guard isReadable, table.count == Int(state.sessions) else {
            throw StateError(
                .corrupted,
                "The state of region \(region) is unreadable: its sessions are not those that go with "
                    + "it.")
        }
        return table
    }

    /// Writes the sessions that entries have changed, and counts them.
    func saveSessions(
        of region: OpenRegion, _ state: inout RegionState, _ batch: any StoreBatch
    ) {
        guard region.sessions != nil else { return }
        #if BugBank
            // They go with the next batch: what is in this one is not written yet.
            if PlantedBug.sessionsLate.isPlanted {
                region.lateSessions.forEach { batch.putSession(region.id, $0, $1) }
                let late = state
                (state.horizon, state.sessions) = region.lateCount
                region.lateSessions = []
                region.sessions?.save { region.lateSessions.append(($0, $1)) }
                region.lateCount = (
                    region.sessions?.horizon ?? late.horizon, UInt32(region.sessions?.count ?? 0)
                )
                return
            }
        #endif
        region.sessions?.save { batch.putSession(region.id, $0, $1) }
        state.horizon = region.sessions?.horizon ?? 0
        state.sessions = UInt32(region.sessions?.count ?? 0)
    }

    /// A new region remembers what the one remembers that it comes out of: whoever asks again what was
    /// carried out there may be sent here. What is idle it need not remember.
    func copySessions(
        of region: OpenRegion, to part: RegionID, _ state: inout RegionState,
        _ batch: any StoreBatch
    ) -> SessionTable? {
        #if BugBank
            if PlantedBug.sessionsNotSplit.isPlanted { return nil }
        #endif
        guard let copy = region.sessions?.copied(at: state.loggedTime) else { return nil }
        copy.forEach { batch.putSession(part, $0, $1) }
        state.horizon = copy.horizon
        state.sessions = UInt32(copy.count)
        return copy
    }

    #if BugBank
        func rememberStale(
            _ header: EntryPayload, in payload: UnsafeRawBufferPointer, _ region: OpenRegion,
            _ state: RegionState
        ) {
            var records = EntryRecords(header, in: payload)
            while let record = records.next() {
                guard let view = try? CommandView(record: record), view.session != 0,
                    let sequence = SessionSequence(rawValue: view.sequence)
                else { continue }
                if region.sessions == nil {
                    region.sessions = SessionTable(limits: sessionLimits)
                }
                guard
                    case .fresh = region.sessions?.judge(
                        view.session, sequence, time: state.loggedTime)
                else { continue }
                region.sessions?.remember(
                    view.session, sequence, .staleEpoch, time: state.loggedTime)
            }
        }
    #endif
}

extension SessionTable {
    /// Takes a session as a store has it; false if it cannot be one.
    mutating func load(_ stored: StoredEntry) -> Bool {
        guard let session = SessionKey.session(stored.key),
            let entry = SessionEntry(stored: stored.value)
        else { return false }
        return load(session, entry)
    }
}
