// Looking at a node without changing it.

public import UkehiBase

/// What a leader knows of one peer.
public struct PeerProgress: Hashable, Sendable {
    public var id: PeerID
    /// It holds our log up to here.
    public var match: LogIndex
    /// The next entry to be sent.
    public var next: LogIndex
    public var state: ProgressState
    /// The snapshot it was sent, in state `snapshot`.
    public var pendingSnapshot: LogIndex
    /// Heard from since the last quorum check.
    public var recentActive: Bool
    /// Heard from since the quorum check before the last: within two election timeouts, and never less than
    /// one ago.
    public var isHeard: Bool
    public var isLearner: Bool
    /// No appends until it answers something.
    public var isPaused: Bool
    /// Appends on their way, and whether there may be no more.
    public var inflightMessages: Int
    public var inflightBytes: UInt64
    public var isWindowFull: Bool
    /// The highest commit index it was told.
    public var sentCommit: LogIndex

    init(_ progress: borrowing Progress) {
        id = progress.id
        match = progress.match
        next = progress.next
        state = progress.state
        pendingSnapshot = progress.pendingSnapshot
        recentActive = progress.recentActive
        isHeard = progress.recentActive || progress.wasActive
        isLearner = progress.isLearner
        isPaused = progress.isPaused
        inflightMessages = Int(progress.inflights.count)
        inflightBytes = progress.inflights.bytes
        isWindowFull = progress.inflights.isFull
        sentCommit = progress.sentCommit
    }
}

/// A node as a whole; making one allocates.
public struct RaftStatus: Hashable, Sendable {
    public var id: PeerID
    public var hardState: HardState
    public var softState: SoftState
    public var applied: LogIndex
    public var leadTransferee: PeerID
    public var configuration: Configuration
    /// In order of id; empty unless the node leads.
    public var progress: [PeerProgress]
}

extension RawNode {
    public var id: PeerID { core.id }
    public var term: Term { core.term }
    /// Whom this node voted for in its term.
    public var vote: PeerID { core.vote }
    /// The leader of its term as far as known, or none.
    public var leader: PeerID { core.leader }
    /// Whether it leads, or has heard its leader within two election timeouts. Who may not campaign, a learner,
    /// follows a leader that is gone for ever.
    public var hearsLeader: Bool {
        core.role == .leader
            || core.leader != .none
                && core.electionElapsed < 2 * Int32(core.settings.electionTicks)
    }
    public var role: Role { core.role }
    public var isLeader: Bool { core.role == .leader }
    public var committed: LogIndex { core.log.committed }
    /// Handed out to be applied.
    public var applying: LogIndex { core.log.applying }
    /// Acknowledged as applied.
    public var applied: LogIndex { core.log.applied }
    public var lastIndex: LogIndex { core.log.lastIndex }
    public var lastTerm: Term { core.log.lastTerm }
    /// The first index that is not compacted.
    public var firstIndex: LogIndex { core.log.firstIndex }
    /// The last index that the storage has acknowledged as durable.
    public var persisted: LogIndex { core.log.unstableStart - 1 }
    public var leadTransferee: PeerID { core.transferee }
    /// Bytes of commands proposed here and not yet applied.
    public var uncommittedBytes: UInt64 { core.uncommittedBytes }
    /// The applied membership.
    public var configuration: Configuration { core.configuration }
    /// Whether a membership change may be on its way, so that another would be refused.
    public var hasPendingConfChange: Bool {
        core.role == .leader && core.pendingChangeIndex > core.log.applied
    }
    /// Whether an entry of this leader's own term is committed, so that its commit index is current.
    public var hasCommittedInTerm: Bool {
        core.role == .leader && core.log.term(at: core.log.committed) == core.term
    }
    /// Whether this peer is a candidate that has asked nobody yet (``RaftConfiguration/leadOnlyWithDurableVote``).
    public var awaitsOwnVote: Bool { core.awaitsOwnVote }
    /// The term of the entry at `index`; nil when compacted or past the end.
    public func term(at index: LogIndex) -> Term? { core.log.term(at: index) }

    /// What this leader knows of a peer; nil when it does not lead or the peer is no member.
    public func progress(of peer: PeerID) -> PeerProgress? {
        core.tracker.slot(of: peer).map { PeerProgress(core.tracker.peers[$0]) }
    }

    /// The lowest index that every member is known to hold; nil when this node does not lead.
    public var lowestMatch: LogIndex? {
        var lowest: LogIndex?
        for peer in core.tracker.peers { lowest = min(lowest ?? peer.match, peer.match) }
        return lowest
    }

    /// How far a member is known to hold the log; nil if it is none, or this node does not lead.
    public func match(of peer: PeerID) -> LogIndex? {
        for progress in core.tracker.peers where progress.id == peer { return progress.match }
        return nil
    }

    /// Whether a snapshot has been taken that the storage does not have yet.
    public var isRestoring: Bool { core.log.snapshot != nil }

    /// What is to be durable, and what the layer above is told: several facts for one look.
    package var hardState: HardState { core.hardState }
    package var softState: SoftState { core.softState }

    public var status: RaftStatus {
        RaftStatus(
            id: core.id, hardState: core.hardState, softState: core.softState,
            applied: core.log.applied, leadTransferee: core.transferee,
            configuration: core.configuration,
            progress: core.tracker.peers.map { PeerProgress($0) })
    }

    /// Sets the random election timeout, until the next change of role; for tests that need one.
    public mutating func setElectionTimeout(ticks: Int) {
        core.randomizedElectionTimeout = Int32(clamping: ticks)
    }
}
