// A peer that leads without those that are dead, from the order to the change that takes them out (RULES 74).
//
//   ordered   durable in the identity file ──▶ the core counts the survivors alone ──▶ an election, as any
//   leads     proposes the change that removes the dead; an entry of the log like others, so that every
//             replica comes to the same members by itself, and so does every later one
//   applied   nobody absent is a member any more: the order is over
//
// Survivors that are not chosen count as before, and so can neither be elected nor commit: nobody but the
// chosen peer can lead, whose log is the greatest. It stays so: what it appends as a leader goes out once it
// is durable here, so that no power cut leaves another one with more (seed 2701665 of `nodes`).

import Logging
import UkehiBase
import UkehiRaft
import UkehiState

extension Lane {
    /// Whom this lane hears, and how its peers stand.
    func survey() -> (heard: [NodeID], standings: [PeerStanding]) {
        let lately = UInt64(Limits.secondsHeard * 1000 / options.tickMilliseconds)
        let heard = outboxes.filter { $0.heardTick > 0 && $0.heardTick + lately >= ticks }
            .map(\.node)
        // Of those without keys the range is still another one's, but where they are lost.
        let shown = allRegions.filter { !$0.awaitsKeys || $0.keysAreLost }
        return (heard, shown.map { standing($0) })
    }

    private func standing(_ region: Region) -> PeerStanding {
        let raft = region.raft.status
        let newest = region.birth.newest(region.descriptor)
        return PeerStanding(
            peer: region.peer, descriptor: newest, isLeader: region.raft.isLeader,
            leader: region.raft.leader != .none && region.raft.hearsLeader
                ? newest.node(of: region.raft.leader) ?? node : nil,
            term: raft.hardState.term, lastTerm: region.raft.lastTerm,
            lastIndex: region.raft.lastIndex, committed: raft.hardState.commit,
            applied: region.applied,
            // Without keys it cannot lead, either.
            isDamaged: !region.holes.isEmpty || region.replacement != nil || region.awaitsKeys,
            hasChanges: !region.handedChanges.isEmpty || !region.heldApplies.isEmpty)
    }

    /// A peer of this lane is to lead without those on absent nodes. The order is durable.
    func force(_ order: ForcedPeer, without absent: Set<NodeID>) {
        guard let region = region(withKeys: order.region), region.peer == order.peer,
            !region.isClosed
        else { return }
        region.absent = absent
        region.raft.sendsDurableOnly = true
        region.aim = nil
        logger.warning(
            "a region is led without its dead peers",
            metadata: [
                "region": "\(region.id)", "peer": "\(region.peer)",
                "last": "\(region.raft.lastTerm).\(region.raft.lastIndex)",
            ])
        takeForced(region.descriptor, region)
        observer?.forced(region.descriptor, peer: region.peer, absent: absent)
        region.firstCampaigns = max(region.firstCampaigns, 9)
        markDirty(region)
        if !isInPass { scheduleLocally() }
    }

    /// A peer that never got anything of a region that is lost goes: its keys are to be another region's. `done`
    /// gets why it does not.
    func abandon(
        _ order: RecoveryOrder.Abandoned, _ done: @escaping @Sendable (String?) -> Void
    ) {
        guard let region = regions[order.region], region.peer == order.peer else {
            return done(nil)
        }
        guard standing(region).isEmpty, region.replacement == nil else {
            return done("Region \(region.id.rawValue) has just got something. Make the plan anew.")
        }
        logger.warning(
            "a peer that holds nothing of a lost region goes",
            metadata: ["region": "\(region.id)", "peer": "\(region.peer)"])
        // As it was last known: nobody decided that it is a member no more.
        var last = region.birth.newest(region.descriptor)
        last.peers.removeAll { $0.peer == region.peer }
        leave(region, as: last)
        guard regions[order.region] == nil else { return done("It cannot go yet. Ask again.") }
        // Once no crash brings it back.
        abandoned[order.region] = done
    }

    /// The core takes a region's members as the forced peer counts them.
    func takeForced(_ descriptor: RegionDescriptor, _ region: Region) {
        do throws(RaftError) {
            try region.raft.forceConfiguration(
                descriptor.configuration(without: region.absent, led: region.peer))
        } catch {
            invariant(false, "\(region.id): the core does not take the survivors: \(error)")
        }
    }

    /// Takes the next step to members that are all there; once a second.
    func driveRecovery(_ region: Region) {
        guard let node else { return }
        let removal = region.descriptor.removing(region.absent, led: region.peer, on: node)
        guard let change = removal else {
            region.absent = []
            region.raft.sendsDurableOnly = false
            host?.recovered(region.id, peer: region.peer)
            return
        }
        guard region.isLeader, region.raft.isLeader, !memberView(of: region).isPending else {
            return
        }
        let step: ConfigurationChange
        if region.descriptor.isJoint {
            // The core leaves it by itself where that was asked for.
            guard !region.descriptor.leavesJoint else { return }
            step = .leaveJoint
        } else {
            step = change
        }
        do throws(RaftError) {
            try region.raft.proposeConfChange(step)
        } catch {
            logger.debug(
                "the dead cannot be removed yet",
                metadata: ["region": "\(region.id)", "reason": "\(error)"])
        }
        markDirty(region)
    }
}
