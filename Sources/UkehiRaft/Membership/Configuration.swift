// Who belongs to a group, and who of them votes (Raft §6; thesis §4).
//
//   voters=(1 2)&&(1 2 3) learners=(5) learnersNext=(3)
//           │       └ outgoing: still has a say until the joint configuration is left
//           └ incoming: `voters`
//
// 3 is demoted here: still a voter of the outgoing half, so not yet a learner, but to become one.

public import UkehiBase

/// A membership as the core uses it; ``ConfigurationState`` is the same as stored and sent.
///
/// Invariant (``check()``): learners vote in neither half; `learnersNext` are outgoing voters and
/// not learners; without an outgoing half there is neither `learnersNext` nor `autoLeave`.
public struct Configuration: Hashable, Sendable {
    public internal(set) var voters = PeerSet()
    private var rest = Rest.nothing

    public init() {}

    /// What few groups have, and those seldom: it costs a group at rest one pointer.
    private enum Rest: Hashable, Sendable {
        case nothing
        indirect case parts(Parts)
    }
    private struct Parts: Hashable, Sendable {
        var outgoing = PeerSet()
        var learners = PeerSet()
        var learnersNext = PeerSet()
        var autoLeave = false
    }
    private var parts: Parts {
        get { if case .parts(let parts) = rest { parts } else { Parts() } }
        set { rest = newValue == Parts() ? .nothing : .parts(newValue) }
    }

    public internal(set) var outgoing: PeerSet {
        get { if case .parts(let parts) = rest { parts.outgoing } else { PeerSet() } }
        set { parts.outgoing = newValue }
    }
    public internal(set) var learners: PeerSet {
        get { if case .parts(let parts) = rest { parts.learners } else { PeerSet() } }
        set { parts.learners = newValue }
    }
    public internal(set) var learnersNext: PeerSet {
        get { parts.learnersNext }
        set { parts.learnersNext = newValue }
    }
    /// Leave the joint configuration as soon as it is committed and applied.
    public internal(set) var autoLeave: Bool {
        get { if case .parts(let parts) = rest { parts.autoLeave } else { false } }
        set { parts.autoLeave = newValue }
    }

    public var isJoint: Bool { !outgoing.isEmpty }
    /// Exactly one voter, so that its word is the quorum's.
    public var isSingleton: Bool { voters.count == 1 && outgoing.isEmpty }
    /// Voters of either half.
    public var allVoters: PeerSet { outgoing.isEmpty ? voters : voters.union(outgoing) }
    /// Everyone who is sent the log.
    public var members: PeerSet {
        learners.isEmpty ? allVoters : allVoters.union(learners)
    }

    public func isVoter(_ id: PeerID) -> Bool { voters.contains(id) || outgoing.contains(id) }
    public func isMember(_ id: PeerID) -> Bool { isVoter(id) || learners.contains(id) }

    /// The same as stored and sent.
    public var state: ConfigurationState {
        ConfigurationState(
            voters: voters.ids, learners: learners.ids, votersOutgoing: outgoing.ids,
            learnersNext: learnersNext.ids, autoLeave: autoLeave)
    }

    /// Checks what a storage or a peer says a membership is.
    ///
    /// - Throws: ``MembershipError`` naming the first rule broken; lists may come in any order.
    public init(validating state: ConfigurationState) throws(MembershipError) {
        voters = PeerSet(state.voters)
        outgoing = PeerSet(state.votersOutgoing)
        learners = PeerSet(state.learners)
        learnersNext = PeerSet(state.learnersNext)
        autoLeave = state.autoLeave
        for id in members.union(learnersNext).ids where !id.isValid {
            throw .invalidPeer(id)
        }
        if voters.isEmpty, !members.isEmpty || !learnersNext.isEmpty { throw .noVoters }
        try check()
    }

    /// The invariant, as an error.
    func check() throws(MembershipError) {
        for id in learnersNext.ids {
            if !outgoing.contains(id) { throw .inconsistent(id) }
            if learners.contains(id) { throw .inconsistent(id) }
        }
        for id in learners.ids where isVoter(id) { throw .inconsistent(id) }
        if !isJoint, !learnersNext.isEmpty || autoLeave { throw .notJoint }
    }
}
