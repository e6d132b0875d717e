// The algebra of configuration changes (thesis §4; etcd's confchange): from one configuration to
// the next, or a typed refusal. Pure: the tracker follows the result.

import UkehiBase

extension Configuration {
    /// The configuration after `change`, as an applied entry of it means.
    public func applying(_ change: ConfigurationChange) throws(MembershipError) -> Configuration {
        if change.leavesJoint { return try leavingJoint() }
        if change.entersJoint {
            return try enteringJoint(change.steps, autoLeave: change.leavesAutomatically)
        }
        return try applyingSimply(change.steps)
    }

    /// From (1 2 3) to (changed)&&(1 2 3): C_old,new of the thesis.
    func enteringJoint(
        _ steps: [ConfigurationChange.Step], autoLeave: Bool
    ) throws(MembershipError) -> Configuration {
        guard !isJoint else { throw .alreadyJoint }
        guard !voters.isEmpty else { throw .emptyCannotBeJoint }
        var next = self
        next.outgoing = voters
        try next.apply(steps)
        next.autoLeave = autoLeave
        try next.check()
        return next
    }

    /// From (new)&&(old) to (new); peers staged to become learners do.
    func leavingJoint() throws(MembershipError) -> Configuration {
        guard isJoint else { throw .notJoint }
        var next = self
        for id in learnersNext.ids { next.learners.insert(id) }
        next.learnersNext = PeerSet()
        next.outgoing = PeerSet()
        next.autoLeave = false
        try next.check()
        return next
    }

    /// Steps that change at most one voter, made at once.
    func applyingSimply(
        _ steps: [ConfigurationChange.Step]
    ) throws(MembershipError) -> Configuration {
        guard !isJoint else { throw .alreadyJoint }
        var next = self
        try next.apply(steps)
        guard voters.differences(from: next.voters) <= 1 else { throw .needsJoint }
        try next.check()
        return next
    }

    private mutating func apply(_ steps: [ConfigurationChange.Step]) throws(MembershipError) {
        for step in steps where step.peer != .none {
            guard step.peer.isValid else { throw .invalidPeer(step.peer) }
            switch step.kind {
            case .addVoter: makeVoter(step.peer)
            case .addLearner: makeLearner(step.peer)
            case .remove: remove(step.peer)
            case .update: break
            }
        }
        guard !voters.isEmpty else { throw .noVoters }
    }

    /// Members that `change` takes out and brings back. Their ids are old, but what they held may be
    /// gone (RULES 16), so that their progress starts over.
    func rejoining(_ change: ConfigurationChange) -> PeerSet {
        rejoining(change.steps, joint: change.entersJoint)
    }

    /// The same for steps that are taken simply or while entering a joint configuration.
    func rejoining(_ steps: [ConfigurationChange.Step], joint: Bool) -> PeerSet {
        var gone = PeerSet()
        guard steps.count > 1 else { return gone }
        var next = self
        // An outgoing voter is sent the log all the while, and has never left.
        if joint { next.outgoing = voters }
        for step in steps where step.kind == .remove && isMember(step.peer) {
            next.remove(step.peer)
            if !next.isVoter(step.peer) { gone.insert(step.peer) }
        }
        return gone
    }

    private mutating func makeVoter(_ id: PeerID) {
        learners.remove(id)
        learnersNext.remove(id)
        voters.insert(id)
    }

    private mutating func makeLearner(_ id: PeerID) {
        guard !learners.contains(id) else { return }
        remove(id)
        // A voter of the outgoing half can't be a learner yet: it becomes one on leaving.
        if outgoing.contains(id) { learnersNext.insert(id) } else { learners.insert(id) }
    }

    private mutating func remove(_ id: PeerID) {
        voters.remove(id)
        learners.remove(id)
        learnersNext.remove(id)
    }
}
