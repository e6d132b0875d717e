// How a peer comes to be on a node that had none of its region (RULES 19).
//
//   leader   has applied the change that adds the peer ──introducePeer──▶ the peer's node, again and
//            again until the peer answers an append
//   node     checks it ──▶ birth record in the log, durable ──▶ the region is opened, with nothing in it
//   peer     replays the log from its beginning; its own configuration follows (RegionBirth.swift)
//
// Nothing is said by a peer whose birth is not durable.
//
// A region that came out of another one has no leader yet when most of its peers are on nodes that will
// not apply the division, since their peers of the old region were removed from it meanwhile. Whoever was
// born by the division introduces the others then: they are members by the command itself. What is
// created so has an empty log, votes, and does not campaign; one that was here before has a tombstone.

import Logging
import UkehiBase
import UkehiRaft
import UkehiWAL

extension Lane {
    /// Leaders introduce those peers that have not answered yet, and peers that hear nothing for long ask.
    func keepMembersInformed() {
        for region in orderedRegions {
            if region.isLeader {
                region.heardTick = ticks
                introduceSilent(region)
            } else if region.leader == .none, region.isAsItBegan {
                for member in region.descriptor.peers where member.peer != region.peer {
                    introduce(member, region)
                }
                inquireAfterSilence(region)
            } else {
                inquireAfterSilence(region)
            }
        }
        for region in awaitingRegions where !region.raft.isLeader { inquireAfterSilence(region) }
    }

    private func inquireAfterSilence(_ region: Region) {
        guard ticks >= region.heardTick + Limits.ticksPerInquiry else { return }
        region.heardTick = ticks
        inquire(region)
    }

    /// Asks all other peers whether this one is still a member; who knows that it is none says so.
    func inquire(_ region: Region) {
        for contact in region.outboxSlots {
            send(
                Message(
                    kind: .askMembership, to: contact.peer, from: region.peer,
                    term: region.raft.term), region)
        }
    }

    private func introduceSilent(_ region: Region) {
        guard region.raft.lowestMatch == .zero else { return }
        for member in region.descriptor.peers where member.peer != region.peer {
            if region.raft.progress(of: member.peer)?.match == .zero { introduce(member, region) }
        }
    }

    /// Tells a peer's node what the peer is to begin with.
    func introduce(_ member: PeerDescriptor, _ region: Region) {
        let birth = RegionBirth(
            origin: region.birth.origin, introduction: region.descriptor,
            parting: region.birth.parting)
        let message = Message(
            kind: .introducePeer, to: member.peer, from: region.peer, term: region.raft.term,
            context: birth.encoded())
        outboxes[outbox(of: member.node)].messages.append(
            RegionMessage(region: region.id, epoch: region.descriptor.epoch, message: message))
    }

    /// What an introduction says, if it is one: of this region, by its sender's node, to this one's peer.
    private func read(_ item: RegionMessage, _ slot: Int) -> (RegionBirth, PeerDescriptor)? {
        guard let birth = try? RegionBirth.decode(item.message.context),
            birth.region == item.region,
            let introduction = birth.introduction, introduction.epoch == item.epoch,
            item.message.term > .zero,
            introduction.node(of: item.message.from) == outboxes[slot].node,
            let own = introduction.member(item.message.to), own.node == node
        else { return nil }
        return (birth, own)
    }

    /// A leader wants a peer here, and there is none of the region.
    func consider(_ item: RegionMessage, _ slot: Int) {
        guard let (birth, own) = read(item, slot), !arriving.contains(item.region),
            remains[item.region] == nil
        else { return }
        if let tombstone = tombstones[item.region] {
            // Whoever was here does not come back, nor does anybody of before it went (RULES 16, 19).
            guard own.peer > tombstone.peer,
                birth.naming.epoch.confVersion >= tombstone.epoch.confVersion
            else { return }
        }
        guard host?.admits(birth) ?? false else { return }
        logger.info(
            "a peer comes to be here",
            metadata: ["region": "\(birth.region)", "peer": "\(own.peer)"])
        write(birth)
    }

    /// A region begins here, of which nobody has anything.
    func bear(_ birth: RegionBirth) {
        guard host?.admits(birth) ?? false else {
            return logger.error(
                "a range was not created: something is left of its keys here; ask again",
                metadata: ["region": "\(birth.region)"])
        }
        write(birth)
        if !isInPass { scheduleLocally() }
    }

    private func write(_ birth: RegionBirth) {
        arriving.insert(birth.region)
        batch.birth(region: birth.region, payload: birth.encoded(), hardState: .empty)
        batchTurns.append(.born(birth))
    }

    /// A leader introduces a peer to a node that has one of the region. It is the same one, as a rule; if
    /// it is a later one, this one was removed, and its successor comes when it has gone.
    func introduced(_ item: RegionMessage, _ region: Region, _ slot: Int) {
        guard let (birth, own) = read(item, slot), own.peer > region.peer,
            birth.naming.epoch.confVersion > region.knownConfVersion,
            region.replacement == nil
        else { return }
        leave(region, as: birth.naming)
    }
}
