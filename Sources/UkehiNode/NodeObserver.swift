// What a checker of whole clusters sees of one node. Production has none.

package import UkehiBase
import UkehiEnvironment
import UkehiRaft
package import UkehiState

/// Told on the lane's thread, at the moment the node itself believes it.
package protocol NodeObserver: AnyObject, Sendable {
    /// A region was opened with this log; `terms` gives the term of each index in it.
    func opened(_ peer: PeerStatus, term: (LogIndex) -> Term?)
    /// The region's peer on this node is a member no more, and gone with its log.
    func closed(region: RegionID, peer: PeerID)
    /// The tombstone of a closed region's peer is durable.
    func buried(region: RegionID, peer: PeerID)
    /// A peer has applied a change of members; `index` is its entry.
    func changed(_ descriptor: RegionDescriptor, peer: PeerID, at index: LogIndex)
    /// A peer has applied a split; `index` is its entry. New regions come out of it on this node, too.
    func divided(
        _ parent: RegionDescriptor, into children: [RegionDescriptor], peer: PeerID,
        at index: LogIndex)
    /// A peer leads without those on absent nodes from now on.
    func forced(_ descriptor: RegionDescriptor, peer: PeerID, absent: Set<NodeID>)
    /// Entries are durable on this node; they supersede what they overlap.
    func durable(region: RegionID, entries: [Entry])
    /// A snapshot stands for the log up to and with this entry now, durably.
    func replaced(_ descriptor: RegionDescriptor, index: LogIndex, term: Term)
    /// Nothing on this node brings a region's keys any more: they come from its leader.
    func lostKeys(region: RegionID)
    /// Entries are committed and go to the state machine; this peer is in `term` now.
    func committed(region: RegionID, entries: [Entry], term: Term)
}

/// One peer as its own node sees it.
package struct PeerStatus: Hashable, Sendable {
    package var region: RegionID
    package var peer: PeerID
    /// It came to be later than its region.
    package var isIntroduced: Bool
    /// A division is on its way to the state out of which the region comes.
    package var awaitsKeys: Bool
    /// As of `applied`.
    package var descriptor: RegionDescriptor
    package var term: Term
    package var isLeader: Bool
    package var leader: PeerID
    package var committed: LogIndex
    package var applied: LogIndex
    /// The durable log.
    package var firstIndex: LogIndex
    package var lastIndex: LogIndex
    /// How often this peer found that another one needs log that is gone.
    package var snapshotsAsked: Int
}

extension Lane {
    /// Whether this node has a peer of the region. On the lane's thread.
    package func holds(_ region: RegionID) -> Bool { self.region(withKeys: region) != nil }

    /// Whether the region has left something here that is not cleared away for good, so that no peer of it
    /// can come to be here yet. On the lane's thread.
    package func isClearing(_ region: RegionID) -> Bool { remains[region] != nil }

    /// What the region's leader knows of its peers, if it is here. On the lane's thread.
    package func memberView(of id: RegionID) -> MemberView? {
        guard let region = region(withKeys: id), region.isLeader, region.raft.isLeader else {
            return nil
        }
        return memberView(of: region)
    }

    /// Asks the region's leader, if it is here, to hand over to another peer. On the lane's thread.
    package func transferLeadership(of id: RegionID, to peer: PeerID) {
        guard let region = region(withKeys: id), region.isLeader else { return }
        region.raft.transferLeadership(to: peer)
        markDirty(region)
        if !isInPass { scheduleLocally() }
    }

    /// Puts a division into the log of the region's leader as if it had been asked for when the region was of this
    /// epoch, whatever it is now. On the lane's thread.
    package func forge(_ command: SplitCommand, of epoch: RegionEpoch, in id: RegionID) {
        guard let region = region(withKeys: id), region.isLeader else { return }
        _ = try? region.raft.propose(
            EntryPayload.encode(
                admin: .split(command), epoch: epoch, time: clock.wallNanoseconds()))
        markDirty(region)
        if !isInPass { scheduleLocally() }
    }

    /// Those that await their keys, too, ascending by id.
    var allRegions: [Region] {
        guard !awaitingRegions.isEmpty else { return orderedRegions }
        return (orderedRegions + awaitingRegions).sorted { $0.id < $1.id }
    }

    /// Shows every peer of this lane, ascending by region, with the terms of its log, what is not
    /// durable yet included. On the lane's thread.
    package func forEachPeer(_ body: (PeerStatus, _ term: (LogIndex) -> Term?) -> Void) {
        for region in allRegions {
            body(status(region)) { index in region.raft.term(at: index) }
        }
    }

    /// Shows each peer of this lane that may have changed since the last call, ascending by region. Every
    /// input of a core goes with a mark: nothing else moves its term, role, commit or log. On the lane's
    /// thread.
    package func forEachTouchedPeer(_ body: (PeerStatus, _ term: (LogIndex) -> Term?) -> Void) {
        for region in allRegions where region.isTouched {
            region.isTouched = false
            body(status(region)) { index in region.raft.term(at: index) }
        }
    }

    /// Whether the lane has given its log what it has not yet heard to be durable: until then its peers'
    /// durable logs may lag behind the disk. On the lane's thread.
    package var awaitsLog: Bool { !inFlight.isEmpty || !batchItems.isEmpty }

    /// How a region's peer stands, in words, for a failure's report; nil if it is not here.
    package func standing(of id: RegionID) -> String? {
        guard let region = orderedRegions.first(where: { $0.id == id }) else {
            return tombstones[id].map {
                "was \($0.peer), removed as of \($0.last.membersInWords)"
            }
        }
        let raft = region.raft.status
        var words =
            "\(raft.softState.role) in term \(raft.hardState.term), log "
            + "\(region.log.firstIndex)...\(region.raft.lastIndex), durable to "
            + "\(region.raft.persisted), committed \(raft.hardState.commit), handed on "
            + "\(region.handedToApply), applied \(region.applied)"
        words += "; \(region.peer) of \(region.descriptor.membersInWords)"
        for peer in raft.progress where peer.id != region.peer {
            words += "; \(peer.id): \(peer.state) match \(peer.match) next \(peer.next)"
            if peer.isPaused { words += " paused" }
            if peer.inflightMessages > 0 { words += " \(peer.inflightMessages) in flight" }
            if !peer.isHeard { words += " silent" }
        }
        return words
    }

    func status(_ region: Region) -> PeerStatus {
        let hard = region.raft.hardState
        let soft = region.raft.softState
        return PeerStatus(
            region: region.id, peer: region.peer,
            isIntroduced: region.birth.introduction != nil, awaitsKeys: region.awaitsKeys,
            descriptor: region.descriptor,
            term: hard.term,
            isLeader: soft.role == .leader, leader: soft.leader,
            committed: hard.commit, applied: region.applied,
            firstIndex: region.log.firstIndex, lastIndex: region.log.lastIndex,
            snapshotsAsked: region.log.snapshotsAsked)
    }
}
