// Hot path. The sessions of one region (RULES 75): replicated state, changed by applying entries alone.
//
//   command of a session ─┬─ known ──┬─ remembered: answered again, nothing is done
//                         │          ├─ under the floor, or another's salt: expired
//                         │          └─ carried out, and remembered
//                         └─ unknown ┬─ opened at or before the horizon, or far ahead: expired
//                                    └─ carried out, remembered, and known from now on
//
// Invariant: no eviction leads to a second execution. Sessions go when they are idle or the table is
// full; the horizon is the latest opening among all that went, so that whoever went is refused from
// then on, whatever clocks say (docs/decisions/0022-sessions.md).
//
// Everything follows from what is stored, so that a replica that begins with a snapshot evicts as one
// that applied every entry.

import UkehiBase

package struct SessionTable: Sendable {
    /// What a command of a session is to come to.
    package enum Verdict: Hashable, Sendable {
        /// It was not carried out yet.
        case fresh
        /// It was, with this result.
        case remembered(CommandResult)
        /// It may have been, or not: nobody knows any more. A session opened at `openAt` would do.
        case expired(openAt: UInt64)
    }

    private let limits: SessionLimits
    /// The latest opening among the sessions that were forgotten; milliseconds.
    package private(set) var horizon: UInt64
    private var entries: [UInt64: SessionEntry] = [:]
    /// No session was used last before this.
    private var oldestUse: UInt64 = 0
    /// Sessions that have changed since they were written to a store batch.
    private var unsaved: Set<UInt64> = []
    /// As they were before the batch in hand; nil: they were not there.
    private var before: [UInt64: SessionEntry?] = [:]
    private var horizonBefore: UInt64

    package init(limits: SessionLimits, horizon: UInt64 = 0) {
        self.limits = limits
        self.horizon = horizon
        horizonBefore = horizon
    }

    package var count: Int { entries.count }

    /// Takes a stored session; false if there is one of this name.
    package mutating func load(_ session: UInt64, _ entry: SessionEntry) -> Bool {
        entries.updateValue(entry, forKey: session) == nil
    }

    /// The same sessions, for a region that comes out of this one at logged time `time`, but for those that
    /// are idle: with every region that is made there would be more of them.
    package func copied(at time: UInt64) -> SessionTable {
        var (kept, last) = (entries, horizon)
        for (session, entry) in entries where isIdle(entry.lastUse, time) {
            kept[session] = nil
            last = max(last, SessionID(session).opened)
        }
        var copy = SessionTable(limits: limits, horizon: last)
        copy.entries = kept
        return copy
    }

    package func forEach(_ body: (UInt64, SessionEntry) -> Void) {
        for (session, entry) in entries { body(session, entry) }
    }

    // MARK: Commands

    /// What becomes of a command at logged time `time`.
    package func judge(_ session: UInt64, _ sequence: SessionSequence, time: UInt64) -> Verdict {
        if let entry = entries[session] {
            guard entry.salt == sequence.salt else { return expired(time) }
            if let result = entry.result(of: sequence.number) { return .remembered(result) }
            return sequence.number < entry.floor ? expired(time) : .fresh
        }
        let opened = SessionID(session).opened
        guard opened > horizon, opened <= time / 1_000_000 + limits.maxAheadMilliseconds else {
            return expired(time)
        }
        return .fresh
    }

    private func expired(_ time: UInt64) -> Verdict {
        .expired(openAt: max(time / 1_000_000, horizon + 1))
    }

    /// Keeps the result of a command that was judged fresh at the same time, and makes room.
    ///
    /// - Complexity: O(1), but for evictions: O(sessions) for each ``SessionLimits/evictedAtOnce``.
    package mutating func remember(
        _ session: UInt64, _ sequence: SessionSequence, _ result: CommandResult, time: UInt64
    ) {
        touch(session)
        let new = SessionEntry(salt: sequence.salt, lastUse: time, floor: sequence.floor)
        entries[session, default: new].add(
            RememberedResult(sequence.number, result), floor: sequence.floor, time: time)
        let isFull = entries.count > limits.maxSessions
        if isFull || isIdle(oldestUse, time) { evict(but: session, time, isFull: isFull) }
    }

    private func isIdle(_ lastUse: UInt64, _ time: UInt64) -> Bool {
        time - min(lastUse, time) > limits.maxIdleNanoseconds
    }

    /// Forgets a few of those that were used least lately, ties by name: idle ones, or any if it must.
    private mutating func evict(but kept: UInt64, _ time: UInt64, isFull: Bool) {
        var oldest: [(lastUse: UInt64, session: UInt64)] = []
        for (session, entry) in entries
        where session != kept && (isFull || isIdle(entry.lastUse, time)) {
            let place =
                (oldest.lastIndex { ($0.lastUse, $0.session) < (entry.lastUse, session) } ?? -1) + 1
            guard place < limits.evictedAtOnce else { continue }
            oldest.insert((entry.lastUse, session), at: place)
            if oldest.count > limits.evictedAtOnce { oldest.removeLast() }
        }
        for (_, session) in oldest {
            touch(session)
            entries[session] = nil
            #if BugBank
                if PlantedBug.evictedWithoutHorizon.isPlanted { continue }
            #endif
            horizon = max(horizon, SessionID(session).opened)
        }
        oldestUse = entries.values.reduce(time) { min($0, $1.lastUse) }
    }

    // MARK: Store batches

    private mutating func touch(_ session: UInt64) {
        if before.index(forKey: session) == nil {
            if before.isEmpty { horizonBefore = horizon }
            before.updateValue(entries[session], forKey: session)
        }
        unsaved.insert(session)
    }

    /// Gives each session that has changed since the last call; nil: it is gone.
    package mutating func save(_ body: (UInt64, SessionEntry?) -> Void) {
        for session in unsaved { body(session, entries[session]) }
        unsaved.removeAll(keepingCapacity: true)
    }

    /// The batch in hand was committed.
    package mutating func keep() {
        guard !before.isEmpty else { return }
        before.removeAll(keepingCapacity: true)
    }

    /// The batch in hand was not committed: everything is as before it.
    package mutating func takeBack() {
        guard !before.isEmpty else { return }
        for (session, entry) in before { entries[session] = entry }
        before.removeAll(keepingCapacity: true)
        unsaved.removeAll(keepingCapacity: true)
        horizon = horizonBefore
        oldestUse = 0
    }
}
