// Raft's promises (Figure 3), checked on plain values: on every state of a small world, and on states
// made up by tests to see that the checks notice.

import UkehiBase

/// One place of a log.
struct LogCell: Hashable {
    var term: UInt64
    /// Zero: the entry that opens a term.
    var command: UInt64

    init(term: UInt64, command: UInt64) {
        self.term = term
        self.command = command
    }

    init(_ entry: Entry) {
        term = entry.term.rawValue
        command = entry.data.isEmpty ? 0 : UInt64(entry.data[0])
    }
}

/// What the promises speak of, of one peer.
struct PeerFacts: Hashable {
    var term: UInt64
    var isLeader: Bool
    /// How many of its entries the peer takes to be committed.
    var committed: Int
    var log: [LogCell]
    /// What of it survives a crash.
    var durable: [LogCell]
}

/// What has happened for good: who led when, and what was committed.
struct WorldHistory: Hashable {
    struct Commit: Hashable {
        var cell: LogCell
        /// Of the leader that committed it.
        var inTerm: UInt64
    }
    /// Who led in each term, by slot; -1: nobody.
    var leaders: [Int8]
    var committed: [Commit] = []

    init(terms: Int) { leaders = Array(repeating: -1, count: terms + 1) }

    func fingerprint(_ naming: Naming) -> Fingerprint {
        var printer = Fingerprinter(kind: 3)
        for leader in leaders { printer.add(leader < 0 ? 0 : naming.names[Int(leader)]) }
        for commit in committed {
            printer.add(commit.cell.term)
            printer.add(commit.cell.command)
            printer.add(commit.inTerm)
        }
        return printer.value
    }
}

/// A promise that was broken.
public struct BrokenPromise: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Promise: String, Sendable {
        case electionSafety = "election safety"
        case logMatching = "log matching"
        case leaderCompleteness = "leader completeness"
        case stateMachineSafety = "state machine safety"
        case commitNeverFalls = "commit never falls"
        case committedIsDurable = "committed is durable on a quorum"
        /// A peer said what no correct peer says.
        case wellFormed = "peers understand each other"
    }
    public var promise: Promise
    public var detail: String
    public var description: String { "\(promise.rawValue): \(detail)" }
}

enum SafetyRules {
    /// Notes what a peer's new state adds to the past: election safety and state machine safety.
    static func note(
        _ peer: PeerFacts, slot: Int, in history: inout WorldHistory
    ) throws(BrokenPromise) {
        if peer.isLeader {
            let term = Int(peer.term)
            guard history.leaders.indices.contains(term) else {
                throw BrokenPromise(
                    promise: .electionSafety, detail: "peer \(slot + 1) leads in term \(term)")
            }
            let known = history.leaders[term]
            if known >= 0, known != slot {
                throw BrokenPromise(
                    promise: .electionSafety,
                    detail: "peers \(known + 1) and \(slot + 1) lead in term \(term)")
            }
            history.leaders[term] = Int8(slot)
        }
        guard peer.committed <= peer.log.count else {
            throw BrokenPromise(
                promise: .stateMachineSafety,
                detail: "peer \(slot + 1) has committed past its log's end")
        }
        for place in 0..<peer.committed {
            if place < history.committed.count {
                guard history.committed[place].cell == peer.log[place] else {
                    throw BrokenPromise(
                        promise: .stateMachineSafety,
                        detail: "two entries are committed at index \(place + 1), one of them by "
                            + "peer \(slot + 1)")
                }
            } else {
                history.committed.append(
                    .init(cell: peer.log[place], inTerm: peer.term))
            }
        }
    }

    /// Whether a leader holds what was committed in earlier terms.
    static func isComplete(_ leader: PeerFacts, _ history: WorldHistory) -> Bool {
        for (place, commit) in history.committed.enumerated() where commit.inTerm < leader.term {
            guard place < leader.log.count, leader.log[place] == commit.cell else { return false }
        }
        return true
    }

    /// How many committed entries, from the first on, the peer's disk holds.
    static func durablyHeld(_ peer: PeerFacts, _ history: WorldHistory) -> Int {
        var count = 0
        while count < history.committed.count, count < peer.durable.count,
            peer.durable[count] == history.committed[count].cell
        { count += 1 }
        return count
    }

    /// Whether two logs that agree on the term of an entry agree up to it.
    static func match(_ a: [LogCell], _ b: [LogCell]) -> Bool {
        var agree = true
        for place in 0..<min(a.count, b.count) {
            if a[place] != b[place] { agree = false }
            if a[place].term == b[place].term, !agree { return false }
        }
        return true
    }

    /// The promises about a whole state.
    static func check(
        _ peers: [PeerFacts], _ history: WorldHistory
    ) throws(BrokenPromise) {
        for (slot, peer) in peers.enumerated() {
            if peer.isLeader, !isComplete(peer, history) {
                throw BrokenPromise(
                    promise: .leaderCompleteness,
                    detail: "peer \(slot + 1), leader of term \(peer.term), lacks a committed entry"
                )
            }
            for other in slot + 1..<peers.count where !match(peer.log, peers[other].log) {
                throw BrokenPromise(
                    promise: .logMatching,
                    detail: "the logs of peers \(slot + 1) and \(other + 1) agree on an entry but "
                        + "not on those before it")
            }
        }
        let held = peers.map { durablyHeld($0, history) }.sorted(by: >)
        guard held[peers.count / 2] == history.committed.count else {
            throw BrokenPromise(
                promise: .committedIsDurable,
                detail: "of \(history.committed.count) committed entries a quorum holds only "
                    + "\(held[peers.count / 2]) on disk")
        }
    }
}
