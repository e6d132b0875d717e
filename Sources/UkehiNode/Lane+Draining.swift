// Before a node stops, its leaders go: who asks next finds another leader instead of none (RULES 73).
//
// A leader hands over to whoever lacks least, and is left where it is if nobody could take over: alone, or
// with peers that do not answer. It takes no longer than an election timeout; what is not done by then is
// done by an election.

import UkehiBase
import UkehiRaft

/// A lane that gives its leaderships away.
struct Draining {
    /// The lane's tick past which it waits no longer.
    var deadline: UInt64
    /// Called once.
    var done: @Sendable () -> Void
}

extension Lane {
    /// Hands every leadership to another node's peer, and says when that is done, or in vain.
    func drain(_ done: @escaping @Sendable () -> Void) {
        guard !isStopped, draining == nil else { return done() }
        let patience = options.electionTimeoutMilliseconds / options.tickMilliseconds
        draining = Draining(deadline: ticks + UInt64(patience), done: done)
        goOnDraining()
    }

    /// Looks whether there is a leadership left that could go, at each tick.
    func goOnDraining() {
        guard let draining else { return }
        var isWaiting = false
        for region in orderedRegions where region.isLeader {
            guard let heir = MemberEngine.heir(memberView(of: region)) else { continue }
            isWaiting = true
            // Tried again when the core has given it up.
            if region.raft.leadTransferee == .none { transferLeadership(of: region.id, to: heir) }
        }
        if !isWaiting || ticks >= draining.deadline { endDraining() }
    }

    /// Whoever waits need wait no longer.
    func endDraining() {
        let done = draining?.done
        draining = nil
        done?()
    }
}
