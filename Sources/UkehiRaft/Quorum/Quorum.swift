// What a majority decides, and what two majorities decide together (Raft §5.2 and §5.3; thesis
// §4.3 for joint consensus).
//
//   voters   1    2    3    4    5        sorted  3 7 9 9 12
//   acked    9   12    3    7    9                    ^ the (n - (n/2+1))th: three of five hold it
//
// An empty half of a joint configuration takes no part: it wins every vote and has committed
// everything.

import UkehiBase

/// The outcome of a vote so far.
public enum VoteResult: UInt8, Hashable, Sendable {
    /// Neither side has a majority yet.
    case pending
    /// A majority said no, or so many that yes can't win.
    case lost
    /// A majority said yes.
    case won
}

/// Majority arithmetic, without state.
public enum Quorum {
    /// The highest index that a majority of `voters` has acknowledged; the highest index there is
    /// when there are no voters. A voter without an acknowledgement counts as zero.
    ///
    /// - Complexity: O(n²) for n voters, n being 3 to 7; no allocation.
    @inline(__always)
    static func committedIndex(
        of voters: PeerSet, acknowledged: (PeerID) -> LogIndex?
    ) -> LogIndex {
        let count = voters.count
        guard count > 0 else { return LogIndex(.max) }
        return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: count) { sorted in
            for position in 0..<count {
                let value = acknowledged(voters.ids[position])?.rawValue ?? 0
                var hole = position
                while hole > 0, sorted[hole - 1] > value {
                    sorted[hole] = sorted[hole - 1]
                    hole -= 1
                }
                sorted[hole] = value
            }
            #if BugBank
                if PlantedBug.halfIsMajority.isPlanted, count > 2 {
                    return LogIndex(sorted[count - count / 2])
                }
            #endif
            return LogIndex(sorted[count - (count / 2 + 1)])
        }
    }

    /// The highest index that majorities of both halves have acknowledged.
    @inline(__always)
    static func committedIndex(
        incoming: PeerSet, outgoing: PeerSet, acknowledged: (PeerID) -> LogIndex?
    ) -> LogIndex {
        let first = committedIndex(of: incoming, acknowledged: acknowledged)
        guard !outgoing.isEmpty else { return first }
        return min(first, committedIndex(of: outgoing, acknowledged: acknowledged))
    }

    /// What `voters` have decided; `vote` is nil for one not heard of.
    static func result(of voters: PeerSet, vote: (PeerID) -> Bool?) -> VoteResult {
        guard !voters.isEmpty else { return .won }
        var granted = 0
        var missing = 0
        for voter in voters.ids {
            switch vote(voter) {
            case true: granted += 1
            case false: break
            case nil: missing += 1
            }
        }
        let majority = voters.count / 2 + 1
        if granted >= majority { return .won }
        return granted + missing >= majority ? .pending : .lost
    }

    /// What both halves have decided: won and lost need both, or one to be lost.
    static func result(
        incoming: PeerSet, outgoing: PeerSet, vote: (PeerID) -> Bool?
    ) -> VoteResult {
        let first = result(of: incoming, vote: vote)
        let second = result(of: outgoing, vote: vote)
        if first == second { return first }
        return first == .lost || second == .lost ? .lost : .pending
    }
}
