// Entries that this node's log holds and cannot read: got back from peers, without any leader
// (DESIGN.md section 5).
//
//   found (at opening, by a read, by the background check)
//     -> the peer is damaged: it votes and acknowledges by indexes and terms, which are known, but does
//        not lead, campaign, or apply past the hole
//     -> any other peer is asked for them by region, index and term, one after the other
//     -> the log writes them in their place if their bytes are those that were there, or what is left of
//        a body that was superseded in part at its end
//     -> the peer is whole again, and goes on where it stood
//
// Why any peer will do: an entry is the same on all peers that have one of its index and term (Raft
// §5.3), committed or not, and the log's own checksum says whether it is. What nobody has any more is
// beyond repair: the region's peer stays as it is until its leader gives it the state behind them
// (Snapshots/Lane+LostEntries.swift), and the node's other regions run on.

import Logging
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiWAL

/// Entries that one peer's log holds and cannot read, and how far they were got from others.
struct Hole {
    enum Progress: Equatable {
        case asking
        case mending
        /// They are on their way to the log's end.
        case writing(Ticket)
        /// No peer has them, or what was there is not theirs alone.
        case beyondRepair
    }
    let entries: DamagedEntries
    /// Of the last entry: who has that one in this term has all of them.
    let lastTerm: Term
    var progress = Progress.asking
    var fetched: [Entry] = []
    /// Where in the region's other peers the one asked last stands.
    var asked = 0
    /// Peers that have compacted them away, and the tick at which they said so.
    var deniedBy: [PeerID: UInt64] = [:]
    /// The tick at which a peer last gave some.
    var gaveAt: UInt64 = 0

    /// The first one that is still to be got.
    var next: LogIndex { entries.first + UInt64(fetched.count) }
}

extension Lane {
    /// The nodes that may still have what this node's peer of a region cannot read; nil if it can read
    /// everything. On the lane's thread.
    package func hopes(of id: RegionID) -> [NodeID]? {
        guard let region = regions[id], let hole = region.holes.first else { return nil }
        if hole.progress == .beyondRepair { return [] }
        return region.descriptor.peers.filter {
            $0.peer != region.peer && hole.deniedBy[$0.peer] == nil
        }.map(\.node)
    }

    /// Entries of a region cannot be read.
    func found(_ damage: DamagedEntries) {
        guard let region = regions[damage.region],
            !region.holes.contains(where: { $0.entries.first == damage.first }),
            let entries = log.current(damage),
            let term = try? region.log.term(at: entries.last)
        else { return }
        logger.error(
            "entries cannot be read and are asked of peers", metadata: describe(entries))
        region.holes.append(Hole(entries: entries, lastTerm: term))
        holesChanged(region)
        ask(region)
    }

    /// Asks another peer for what the last one did not give.
    func askAgain() {
        func go(_ region: Region) {
            guard !region.holes.isEmpty || region.keysAreLost else { return }
            forgetWritten(region)
            forgetSuperseded(region)
            ask(region)
            askForState(region)
        }
        if holes > 0 { for region in orderedRegions { go(region) } }
        for region in awaitingRegions { go(region) }
    }

    /// Whether the peer that could give them may never answer: it may be gone for good, by a change of members behind
    /// the hole even. The leader, which has compacted them away, has the state behind them; it is asked for that
    /// beside the others.
    func isAskedInVain(_ hole: Hole, _ region: Region) -> Bool {
        guard hole.progress == .asking, let deniedAt = hole.deniedBy[region.leader] else {
            return false
        }
        return ticks >= max(deniedAt, hole.gaveAt) + Limits.ticksUntilStateIsAsked
    }

    private func ask(_ region: Region) {
        guard let position = region.holes.firstIndex(where: { $0.progress == .asking }) else {
            return
        }
        let others = region.outboxSlots.map(\.peer).filter {
            region.holes[position].deniedBy[$0] == nil
        }
        guard !others.isEmpty else {
            return giveUp(
                region, position,
                "no other peer has them any more; this node's peer of the region "
                    + "stands still until a leader gives it a snapshot")
        }
        region.holes[position].asked = (region.holes[position].asked + 1) % others.count
        ask(others[region.holes[position].asked], for: region.holes[position], region)
    }

    private func ask(_ peer: PeerID, for hole: Hole, _ region: Region) {
        send(
            Message(
                kind: .requestEntries, to: peer, from: region.peer, term: region.raft.term,
                logTerm: hole.lastTerm, index: hole.next, commit: hole.entries.last), region)
        scheduleSoon()
    }

    /// Messages are sent at a pass's end; outside of one there has to be one.
    private func scheduleSoon() {
        if !isInPass { scheduleLocally() }
    }

    /// A peer asks for entries that it cannot read: it gets as many as fit in a message.
    func answerPeer(_ request: Message, _ region: Region) {
        guard request.to == region.peer, request.index != .zero, request.index <= request.commit,
            peerReads < Limits.maxPeerReads
        else { return }
        var answer = Message(
            kind: .requestEntriesResponse, to: request.from, from: region.peer,
            term: region.raft.term, index: request.index - 1)
        guard request.index >= region.log.firstIndex else {
            // Those who asked need no longer ask here.
            answer.reject = true
            return send(answer, region)
        }
        guard let term = try? region.log.term(at: request.commit), term == request.logTerm else {
            return
        }
        peerReads += 1
        let log = log
        let id = region.id
        let lane = self
        let bytes = Int(clamping: options.raft.messageBytes)
        let empty = answer
        readWorker.run {
            var answer = empty
            do throws(WALError) {
                answer.entries = try log.entries(
                    region: id, from: request.index, to: request.commit + 1, maxBytes: bytes)
            } catch {
                // Not sent: another peer will be asked.
                answer.to = .none
                if let damage = error.damaged, log.repairsDamage {
                    lane.post(.damaged(damage))
                } else if error.code != .compacted && error.code != .unavailable {
                    return lane.fail(NodeError(error))
                }
            }
            lane.post(.readForPeer(id, answer))
        }
    }

    /// A peer gives entries that were asked for, or says that it has them no more.
    func take(_ answer: Message, _ region: Region) {
        // Not past the greatest index, whatever the peer says.
        guard answer.to == region.peer,
            let position = region.holes.firstIndex(where: {
                $0.progress == .asking && $0.next - 1 == answer.index
            })
        else { return }
        let wanted = region.holes[position].next
        if answer.reject {
            region.holes[position].deniedBy[answer.from] = ticks
            return ask(region)
        }
        for entry in answer.entries {
            guard entry.index == region.holes[position].next,
                entry.index <= region.holes[position].entries.last,
                // Of what is compacted here the term is not known; the log's checksum decides.
                entry.index < region.log.firstIndex
                    || (try? region.log.term(at: entry.index)) == entry.term
            else { break }
            region.holes[position].fetched.append(entry)
            region.holes[position].gaveAt = ticks
        }
        guard region.holes[position].next > region.holes[position].entries.last else {
            // The same one goes on, if it gave any.
            if region.holes[position].next > wanted {
                ask(answer.from, for: region.holes[position], region)
            }
            return
        }
        region.holes[position].progress = .mending
        let hole = region.holes[position]
        let log = log
        let lane = self
        maintenanceWorker.run {
            do throws(WALError) {
                let outcome = try log.mend(
                    region: hole.entries.region, first: hole.entries.first,
                    entries: hole.fetched)
                lane.post(.mended(hole.entries, outcome))
            } catch {
                lane.fail(NodeError(error))
            }
        }
    }

    func mended(_ entries: DamagedEntries, _ outcome: MendOutcome) {
        guard let region = regions[entries.region],
            let position = region.holes.firstIndex(where: { $0.entries == entries })
        else { return }
        switch outcome {
        case .mended, .gone:
            logger.notice("entries can be read again", metadata: describe(entries))
            region.holes.remove(at: position)
            holesChanged(region)
            ask(region)
        case .writtenAnew(let ticket):
            region.holes[position].fetched = []
            region.holes[position].progress = .writing(ticket)
            forgetWritten(region)
        case .later:
            // It is asked for again in a while, after others.
            var hole = region.holes.remove(at: position)
            hole.fetched = []
            hole.progress = .asking
            region.holes.append(hole)
        case .mismatch:
            region.holes[position].fetched = []
            giveUp(
                region, position,
                "peers have them, but they cannot be put where they were; they are "
                    + "in the way until the log is compacted past them")
        }
    }

    /// Holes whose entries have become durable elsewhere in the log.
    private func forgetWritten(_ region: Region) {
        let written = region.holes.filter {
            guard case .writing(let ticket) = $0.progress else { return false }
            return log.isDurable(ticket)
        }
        for hole in written { mended(hole.entries, .mended) }
    }

    private func giveUp(_ region: Region, _ position: Int, _ reason: String) {
        region.holes[position].progress = .beyondRepair
        var metadata = describe(region.holes[position].entries)
        metadata["reason"] = "\(reason)"
        logger.error("entries cannot be repaired", metadata: metadata)
        ask(region)
    }

    /// Holes that a new leader's entries or a compaction took away.
    private func forgetSuperseded(_ region: Region) {
        let before = region.holes.count
        region.holes.removeAll { hole in
            if hole.progress == .mending { return false }
            if hole.entries.last < region.log.firstIndex { return true }
            guard (try? region.log.term(at: hole.entries.last)) != hole.lastTerm else {
                return false
            }
            lookAgain(at: hole.entries.first, region)
            return true
        }
        if region.holes.count != before { holesChanged(region) }
    }

    /// A hole whose end was superseded may still be one at its beginning.
    private func lookAgain(at index: LogIndex, _ region: Region) {
        let log = log
        let id = region.id
        let lane = self
        readWorker.run {
            do throws(WALError) {
                _ = try log.entries(region: id, from: index, to: index + 1, maxBytes: 1)
            } catch {
                if let damage = error.damaged { lane.post(.damaged(damage)) }
            }
        }
    }

    /// A snapshot has replaced the log, and with it whatever could not be read.
    func forgetHoles(_ region: Region) {
        guard !region.holes.isEmpty else { return }
        region.holes = []
        holesChanged(region)
    }

    private func holesChanged(_ region: Region) {
        let known = region.log.unreadable.count
        holes += region.holes.count - known
        region.log.unreadable = region.holes.map { $0.entries.first...$0.entries.last }
        region.raft.setDamaged(!region.holes.isEmpty)
        // What waited for entries that can be read now goes on.
        if region.holes.count < known { region.raft.storageFetched() }
        markDirty(region)
        scheduleSoon()
    }

    private func describe(_ entries: DamagedEntries) -> Logger.Metadata {
        [
            "region": "\(entries.region)", "first": "\(entries.first)",
            "last": "\(entries.last)",
        ]
    }
}
