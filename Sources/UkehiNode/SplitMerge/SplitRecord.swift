// What a node remembers of the divisions that it led: when each was decided, and when all of it served again.
//
//   decided ──▶ proposed ──▶ applied ──▶ served
//                             └─ pause ┘
//               └──────── held ────────┘
//
// A decision is followed by a look whether each part has a key, and by ids from the system region: writes go
// on meanwhile. What is proposed behind the command names an epoch that has passed by the time it is applied,
// does nothing and is sent back.

import DequeModule
import Synchronization
package import UkehiBase
package import UkehiEnvironment
import UkehiRaft

/// One division of a region that this node led; times by its lane's clock.
package struct SplitRecord: Hashable, Sendable {
    /// The region that was divided; it keeps what lies above the last new one.
    package var region: RegionID
    /// The new regions, ascending.
    package var children: [RegionID]
    package var reason: SplitReason
    /// When the request, or the decision, arrived at the region's lane.
    package var decidedAt: MonotonicTime
    /// When the command went into the log.
    package var proposedAt: MonotonicTime
    /// When it was applied here: from then on the divided region takes writes again.
    package var appliedAt: MonotonicTime
    /// When every new region that this node was the first to lead had committed and applied an entry of its
    /// own term: from then on each of them acknowledges writes and serves reads. Nil: not yet; or one of them
    /// has another leader by now, and nobody here knows when it served first.
    package var servedAt: MonotonicTime?

    /// From the decision to the moment at which all parts serve.
    package var nanosecondsToServe: UInt64? {
        servedAt.map { $0.nanoseconds - decidedAt.nanoseconds }
    }

    /// For how long no write of a new region's range is acknowledged: those before the command are when it is
    /// applied, and the next ones when all parts serve. One in the divided region's rest goes on at
    /// ``appliedAt``.
    package var pauseNanoseconds: UInt64? {
        servedAt.map { $0.nanoseconds - appliedAt.nanoseconds }
    }

    /// How long a write takes at most that came right behind the command: nothing there is carried out before
    /// all parts serve. What it takes otherwise is part of that.
    package var heldNanoseconds: UInt64? {
        servedAt.map { $0.nanoseconds - proposedAt.nanoseconds }
    }
}

/// A division that a leader has under way.
struct OwnSplit {
    var reason: SplitReason
    var decidedAt: MonotonicTime
    var proposedAt: MonotonicTime?
    /// Zero until it was proposed.
    var index: LogIndex = .zero
}

/// The newest records of a node, and what they still wait for. Any thread.
final class SplitHistory: Sendable {
    private struct State {
        var records = Deque<SplitRecord>()
        /// The number of the first one, of all that there ever were.
        var first = 0
        /// New regions that do not serve yet, and the number of their record.
        var awaited: [RegionID: Int] = [:]
        /// How many of them each such record has left.
        var left: [Int: Int] = [:]
    }
    private let state = Mutex(State())
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    /// Takes in a division that was applied; `led` are the new regions that this node leads first.
    func note(_ record: SplitRecord, led: [RegionID]) {
        state.withLock { state in
            let number = state.first + state.records.count
            state.records.append(record)
            for region in led { state.awaited[region] = number }
            if !led.isEmpty { state.left[number] = led.count }
            guard state.records.count > capacity else { return }
            for region in state.records.removeFirst().children {
                if state.awaited[region] == state.first { state.awaited[region] = nil }
            }
            state.left[state.first] = nil
            state.first += 1
        }
    }

    /// A new region serves.
    func serves(_ region: RegionID, at time: MonotonicTime) {
        state.withLock { state in
            guard let number = state.awaited.removeValue(forKey: region),
                let left = state.left[number]
            else { return }
            guard left == 1 else { return state.left[number] = left - 1 }
            state.left[number] = nil
            state.records[number - state.first].servedAt = time
        }
    }

    var records: [SplitRecord] { state.withLock { Array($0.records) } }
}

extension NodeCore {
    /// The divisions that this node led since it was started, in the order in which they were applied; the
    /// newest ``Limits/maxSplitRecords``. Any thread.
    package func splitRecords() -> [SplitRecord] { splitHistory.records }

    package func noted(_ record: SplitRecord, led: [RegionID]) {
        splitHistory.note(record, led: led)
    }

    package func serves(_ region: RegionID, at time: MonotonicTime) {
        splitHistory.serves(region, at: time)
    }
}

extension Lane {
    /// A leader is to divide its region, for this reason: the record of it begins.
    func decided(_ region: Region, _ reason: SplitReason) {
        region.ownSplit = OwnSplit(reason: reason, decidedAt: clock.now())
    }

    /// The command is in the log.
    func proposedSplit(_ region: Region, at index: LogIndex) {
        // By hand nobody decides before.
        if region.ownSplit?.index != .zero { decided(region, .request) }
        region.ownSplit?.proposedAt = clock.now()
        region.ownSplit?.index = index
    }

    /// It is applied: the node remembers it, if it was this leader's.
    func record(_ split: HandedSplit, born: [RegionBirth], at index: LogIndex, _ region: Region) {
        guard let own = region.ownSplit, own.index > .zero, own.index <= index else { return }
        region.ownSplit = nil
        guard region.isLeader, own.index == index, let proposedAt = own.proposedAt else { return }
        let led = zip(split.children, split.leaders).filter { child, leader in
            child.node(of: leader) == node && born.contains { $0.region == child.region }
        }
        host?.noted(
            SplitRecord(
                region: region.id, children: split.children.map(\.region), reason: own.reason,
                decidedAt: own.decidedAt, proposedAt: proposedAt, appliedAt: clock.now()),
            led: led.map(\.0.region))
    }

    /// Entries of these terms were applied: whether a new region serves now.
    func noteServing(_ region: Region, _ term: Term) {
        guard region.isFirstLed, region.isLeader, term == region.raft.term else { return }
        region.isFirstLed = false
        host?.serves(region.id, at: clock.now())
    }
}
