// A peer that cannot apply entries which nobody has any more (Lane+Mending.swift) gets the state behind
// them: a snapshot, as a peer that lags does.
//
//   peer                                         leader
//     needs the state                     ─────▶    can the others commit without it?
//                                         ◀─────    an offer
//     takes no more entries
//     has entries up to `last`            ─────▶    has it applied more? Else something is proposed.
//                                                   made, sent, installed as any other
//
// The peer has acknowledged what its log holds, though it cannot read all of it. A reset to a snapshot's
// index drops what lies behind that, so that the index has to be past all of it: that is why it takes no
// more entries, and why nothing is made before the leader has applied more than it has.

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    /// Whether only a snapshot helps: entries are lost, or as good as lost, that the peer has still to apply, or its
    /// keys are.
    func needsState(_ region: Region) -> Bool {
        region.keysAreLost
            || region.holes.contains {
                ($0.progress == .beyondRepair || isAskedInVain($0, region))
                    && $0.entries.last > region.applied
            }
    }

    /// Whether a snapshot is on its way that has to end past what the peer has now.
    func takesNoEntries(_ region: Region) -> Bool {
        guard let position = snapshots.incoming(region.id) else { return false }
        return snapshots.incoming[position].replacesLost
    }

    /// Asks the leader for an offer, where that is all that helps.
    func askForState(_ region: Region) {
        if region.keysAreLost { tellOfLostKeys(region) }
        guard needsState(region), region.keysAreLost || !region.awaitsKeys,
            region.replacement == nil,
            snapshots.incoming(region.id) == nil, region.leader != .none,
            region.leader != region.peer, applier.givesSnapshots(of: region.id)
        else { return }
        send(
            Message(
                kind: .snapshotRequest, to: region.leader, from: region.peer,
                term: region.raft.term,
                context: SnapshotRequest(snapshot: 0, verdict: .needsState).encoded()), region)
    }

    /// A peer has lost entries.
    func replaceLost(_ request: SnapshotRequest, of peer: PeerID, _ region: Region) {
        guard region.isLeader, region.raft.isLeader, region.descriptor.member(peer) != nil,
            commits(without: peer, region)
        else { return refuse(request, from: peer, region) }
        guard request.room > 0 else {
            guard let snapshot = offer(region) else { return }
            return send(
                Message(
                    kind: .installSnapshot, to: peer, from: region.peer, term: region.raft.term,
                    snapshot: snapshot), region)
        }
        let last = LogIndex(request.offset)
        let position = snapshots.outgoing(region.id, peer) ?? snapshots.outgoing.count
        if position == snapshots.outgoing.count {
            snapshots.outgoing.append(
                OutgoingSnapshot(
                    region: region.id, peer: peer, floor: region.applied, heardAt: ticks,
                    pace: TransferPace(begunAt: ticks)))
        }
        snapshots.outgoing[position].heardAt = ticks
        switch snapshots.outgoing[position].stage {
        case .offered where region.applied > last:
            guard snapshotWork.outgoing.take() else { return tellMaking(peer, region) }
            make(region, position)
        case .offered: goPast(last, region)
        case .making: tellMaking(peer, region)
        case .made(_, let id, _) where snapshots.outgoing[position].floor > last:
            snapshots.outgoing[position].wanted = SnapshotRequest(snapshot: id, room: request.room)
            giveWanted(position)
        case .made, .taken, .catchingUp:
            // One that was begun for another reason.
            giveUp(position)
        }
    }

    /// Whether members that answer are a quorum without this one: while it takes no entries nothing must
    /// wait for it.
    private func commits(without peer: PeerID, _ region: Region) -> Bool {
        let view = memberView(of: region)
        func isQuorum(_ role: PeerRoles) -> Bool {
            let voters = region.descriptor.peers.filter { $0.roles.contains(role) }
            let answering = voters.filter {
                $0.peer != peer && (view.peer($0.peer)?.isActive ?? false)
            }
            return voters.isEmpty || answering.count > voters.count / 2
        }
        return isQuorum(.voter) && isQuorum(.outgoingVoter)
    }

    /// In a region that rests nothing would ever be applied past the index.
    private func goPast(_ last: LogIndex, _ region: Region) {
        // One that has more than this log, or less, is still to be brought in line, or is mistaken.
        guard region.raft.lastIndex == last else { return }
        let payload = EntryPayload.encode(
            time: clock.wallNanoseconds(), epoch: region.descriptor.epoch)
        guard let position = try? region.raft.propose(payload) else { return }
        remember(
            Proposal(
                index: position.index, term: position.term,
                deadline: MonotonicTime(nanoseconds: .max), waiters: []), region)
        markDirty(region)
    }
}
