// Membership takes effect when applied (RULES 9), on each peer by itself.

import UkehiBase

extension RaftCore {
    /// Applies a committed membership change.
    mutating func apply(_ change: ConfigurationChange) throws(RaftError) -> ConfigurationState {
        let next: Configuration
        do {
            next = try configuration.applying(change)
        } catch {
            throw .membership(error)
        }
        switchTo(next, restarting: configuration.rejoining(change))
        return configuration.state
    }

    /// Goes over to a configuration, and does what a leader owes to it. Nothing is taken for granted of
    /// members that are `restarting`.
    mutating func switchTo(_ next: Configuration, restarting: PeerSet = PeerSet()) {
        configuration = next
        guard role == .leader else { return }
        tracker.follow(
            next, restarting: restarting, lastIndex: log.lastIndex, window: emptyWindow)

        if !next.isVoter(id) {
            // Removed or demoted. It could go on replicating, uncounted, to no end (RULES 15).
            if settings.flags.contains(.stepDownOnRemoval) {
                becomeFollower(term: term, leader: .none)
            }
            return
        }
        if advanceCommit() {
            // Fewer peers may be needed now than were counted so far.
            broadcastCommit()
        } else {
            // New peers need not wait for a heartbeat to be probed.
            for slot in tracker.peers.indices where tracker.peers[slot].id != id {
                sendAppend(slot: slot, evenIfEmpty: false)
            }
        }
        if transferee != .none, !next.isVoter(transferee) { office.transferee = .none }
        // Fewer peers may be needed for reads, too: of those that are left nobody may answer any more, since
        // this one is the last (simulated seed 2900218 of `splits`).
        answerConfirmedReads()
    }
}
