// Changes of a region's members, from committed entries, and who is listened to meanwhile.
//
//   handed to apply   the region after the change is computed: it goes with the entry into the store,
//                     in one atomic write with the applied index
//   applied           the core takes the change (RULES 9); messages, routers and leader hints follow
//
// Several changes may be on their way at once on a follower: each is computed from what the one before
// will leave. A void one is skipped, by every replica alike.

import DequeModule
import Logging
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    // MARK: Applying

    /// Keeps committed entries with membership changes among them, and those behind, until it is durable
    /// here that they are committed.
    ///
    /// Otherwise a leader that has shrunk its group to itself, sent the next entry to whoever was left out and
    /// then lost its power would know neither that the change is committed nor the entry behind it: by the
    /// old configuration it needs the vote of a peer whose log is longer, and that does not campaign
    /// (simulated seed 5006).
    func holdChange(_ message: Message, _ region: Region) {
        let hasChange = message.entries.contains(where: Self.changesRegion)
        region.heldApplies.append(HeldApply(message: message, isReleased: !hasChange))
        guard hasChange, let last = message.entries.last else { return }
        var state = hardStateToPersist(region)
        state.commit = max(state.commit, last.index)
        batch.append(region: region.id, hardState: state, entries: [])
        batchTurns.append(.committed(region, index: last.index))
        // Births go with the commit into one batch where nothing is waited for before them: durable together,
        // or the commit alone (DESIGN.md section 7).
        #if BugBank
            let goTogether = !PlantedBug.childBirthVolatile.isPlanted
        #else
            let goTogether = true
        #endif
        // What is without keys itself bears nothing: it may be given its state from behind that.
        if goTogether, region.heldApplies.count == 1, !region.awaitsKeys {
            _ = bearsChildren(region.heldApplies[0], region)
        }
        // New regions serve once most nodes have them: they are told now, not with the next entry or tick.
        if message.entries.contains(where: { EntryPayload.isSplit($0.data) }),
            !rare.takes(.commitToldLate)
        {
            region.raft.flushCommit()
        }
    }

    /// A commit index of `index` is durable: what waited for it is handed on.
    func releaseChanges(upTo index: LogIndex, _ region: Region) {
        guard !region.isClosed else { return }
        for position in region.heldApplies.indices {
            guard let last = region.heldApplies[position].message.entries.last,
                last.index <= index
            else { break }
            region.heldApplies[position].isReleased = true
        }
        while !region.awaitsKeys, let first = region.heldApplies.first, first.isReleased {
            if bearsChildren(first, region) { break }
            region.heldApplies.removeFirst()
            handToApply(first.message, region)
        }
        markDirty(region)
    }

    /// Adds committed entries with membership changes among them to the pass's apply batch: each change
    /// ends an item of its own.
    func handChanges(_ entries: [Entry], _ region: Region) {
        var start = entries.startIndex
        func hand(upTo end: Int, _ change: RegionChange?) {
            guard start < end else { return }
            applyBatch.append(
                region: region.id, entries: Array(entries[start..<end]),
                wantsResults: !region.proposals.isEmpty, change: change)
            start = end
        }
        for position in entries.indices where Self.changesRegion(entries[position]) {
            let handed = judge(entries[position], region, region.handedDescriptor)
            var change: RegionChange?
            switch handed.outcome {
            case .void:
                // One of members is looked for when it is applied.
                if entries[position].kind == .normal { continue }
            case .members(_, let next):
                region.handedDescriptor = next
                change = RegionChange(epoch: next.epoch, descriptor: next.encoded())
            case .split(let split):
                region.handedDescriptor = split.next
                change = stateChange(split)
                openAhead(split)
            }
            region.handedChanges.append(handed)
            hand(upTo: position + 1, change)
        }
        hand(upTo: entries.endIndex, nil)
    }

    /// What a committed change comes to, from the region as the entry before it leaves it.
    func judge(
        _ entry: Entry, _ region: Region, _ descriptor: RegionDescriptor
    ) -> HandedChange {
        if entry.kind == .normal { return judgeSplit(entry, region, descriptor) }
        var reason = "it cannot be read"
        if let change = try? ConfigurationChange.decode(entry) {
            do throws(VoidChange) {
                let next = try descriptor.applying(change)
                return HandedChange(index: entry.index, outcome: .members(change, next: next))
            } catch {
                reason = "\(error)"
            }
        }
        logger.notice(
            "a membership change is void",
            metadata: ["region": "\(region.id)", "index": "\(entry.index)", "reason": "\(reason)"])
        return HandedChange(index: entry.index, outcome: .void)
    }

    /// The entry at `index` is applied, and what it makes of the region is in the store.
    func applyChange(at index: LogIndex, _ region: Region) {
        guard let handed = region.handedChanges.popFirst(), handed.index == index else {
            return invariant(false, "\(region.id) applies a change at \(index) that was not handed")
        }
        let before = region.descriptor
        let (change, next): (ConfigurationChange, RegionDescriptor)
        switch handed.outcome {
        case .void: return
        case .split(let split): return applySplit(split, at: index, region)
        case .members(let handedChange, let handedNext):
            (change, next) = (handedChange, handedNext)
        }
        #if BugBank
            if plantedChange(change, next, region) {
                return follow(next, before: before, at: index, region)
            }
        #endif
        // A core that has taken a snapshot has its members already, whatever is still applied before it
        // (simulated seed 64).
        if region.raft.isRestoring { return follow(next, before: before, at: index, region) }
        if !region.absent.isEmpty {
            takeForced(next, region)
            return follow(next, before: before, at: index, region)
        }
        do throws(RaftError) {
            let state = try region.raft.applyConfChange(change)
            invariant(
                state == next.configuration,
                "\(region.id): the core has other members after \(index) than the region")
        } catch {
            invariant(false, "\(region.id): the core refuses the change at \(index): \(error)")
        }
        follow(next, before: before, at: index, region)
    }

    #if BugBank
        /// Whether a planted bug has the core keep its own idea of its members.
        private func plantedChange(
            _ change: ConfigurationChange, _ next: RegionDescriptor, _ region: Region
        ) -> Bool {
            if PlantedBug.removedPeerCounted.isPlanted {
                let goes = change.steps.contains {
                    $0.kind == .remove
                        || $0.kind == .addLearner && region.descriptor.member($0.peer) != nil
                }
                return goes || change.steps.isEmpty
                    || (try? region.raft.applyConfChange(change)) != next.configuration
            }
            if PlantedBug.configurationWhenAppended.isPlanted, !region.isLeader {
                return true
            }
            return false
        }

        /// A planted bug: a configuration in force before it is committed.
        func plantedAppend(_ entries: [Entry], _ region: Region) {
            guard PlantedBug.configurationWhenAppended.isPlanted, !region.isLeader else { return }
            for entry in entries where entry.kind != .normal {
                if let change = try? ConfigurationChange.decode(entry) {
                    _ = try? region.raft.applyConfChange(change)
                }
            }
        }
    #endif

    /// Everything beside the core goes over to the region's new members.
    private func follow(
        _ next: RegionDescriptor, before: RegionDescriptor, at index: LogIndex, _ region: Region
    ) {
        region.descriptor = next
        findContacts(of: region)
        logger.info(
            "the members of a region have changed",
            metadata: [
                "region": "\(region.id)", "epoch": "\(next.epoch)",
                "peers": "\(next.peers.map { "\($0.peer)@\($0.node)" }.joined(separator: " "))",
            ])
        observer?.changed(next, peer: region.peer, at: index)
        host?.membersChanged(next)
        if region.isLeader { tell(region, before: before) }
        markDirty(region)
    }

    /// Those who came hear at once what they are to be, and those who went that they are gone; whom it
    /// does not reach asks, or is told when it speaks.
    private func tell(_ region: Region, before: RegionDescriptor) {
        for gone in before.peers
        where region.descriptor.member(gone.peer) == nil && gone.peer != region.peer {
            sayGone(gone.peer, region.descriptor, from: region.peer, slot: outbox(of: gone.node))
        }
        for new in region.descriptor.peers
        where before.member(new.peer) == nil && new.peer != region.peer {
            introduce(new, region)
        }
    }

    // MARK: Contacts

    /// The outbox for messages to a node.
    func outbox(of node: NodeID) -> Int {
        if let slot = outboxes.firstIndex(where: { $0.node == node }) { return slot }
        outboxes.append((node, [], 0))
        return outboxes.count - 1
    }

    /// Finds out where the region's other peers are: its members, and those it was introduced to while
    /// it has not come as far as that.
    func findContacts(of region: Region) {
        var contacts: [(peer: PeerID, slot: Int)] = []
        func add(_ peers: [PeerDescriptor]) {
            for other in peers
            where other.peer != region.peer && other.node != node
                && !contacts.contains(where: { $0.peer == other.peer })
            {
                contacts.append((other.peer, outbox(of: other.node)))
            }
        }
        add(region.descriptor.peers)
        if let introduction = region.birth.introduction,
            introduction.epoch.confVersion > region.descriptor.epoch.confVersion
        {
            add(introduction.peers)
        }
        region.outboxSlots = contacts
    }

    // MARK: Who is listened to

    /// Whether a message to one of this node's regions counts, though its sender is unknown or has
    /// another epoch of the region (RULES 18).
    func admits(_ item: RegionMessage, _ region: Region, _ slot: Int) -> Bool {
        let message = item.message
        // Nodes say them to nodes.
        if message.kind.isBetweenNodes { return true }
        // They carry the region as their sender has it, and are judged by that.
        if message.kind == .introducePeer || message.kind == .peerIsGone { return true }
        guard message.to == region.peer || message.to == .none else { return false }
        if region.slot(of: message.from) == slot { return true }
        guard region.slot(of: message.from) == nil, message.from.isValid,
            // The core takes what this peer says of its own log for durable.
            message.from != region.peer
        else { return false }
        if item.epoch.confVersion > region.knownConfVersion {
            // Its configuration is newer than ours: it may lead, or need our vote, and we have to answer
            // before we know it.
            let known = region.descriptor.peers.count
            if region.outboxSlots.count >= known + Limits.maxStrangers {
                region.outboxSlots.removeLast()
            }
            region.outboxSlots.append((message.from, slot))
            return true
        }
        // In our configuration it is not, and that is the newer one: it was a member once.
        if item.epoch.confVersion < region.descriptor.epoch.confVersion,
            region.descriptor.member(message.from) == nil, Self.isAnswered(message.kind)
        {
            sayGone(message.from, region.descriptor, from: region.peer, slot: slot)
        }
        return false
    }

    /// Whether somebody who is no member is told so, rather than not answered.
    static func isAnswered(_ kind: MessageKind) -> Bool {
        switch kind {
        case .requestVote, .requestPreVote, .appendEntries, .heartbeat, .askMembership,
            .requestEntries:
            true
        default: false
        }
    }

    /// What one peer's layer says to another's, past the cores.
    func receiveAboveCore(_ item: RegionMessage, _ region: Region, _ slot: Int) {
        switch item.message.kind {
        case .requestEntries: answerPeer(item.message, region)
        case .requestEntriesResponse: take(item.message, region)
        case .snapshotRequest where region.awaitsKeys,
            .snapshotChunk where region.awaitsKeys && !region.keysAreLost:
            break
        case .snapshotRequest: serve(item.message, region)
        case .snapshotChunk: take(chunk: item.message, region)
        case .introducePeer: introduced(item, region, slot)
        case .peerIsGone: toldGone(item, region)
        case let kind where kind.isBetweenNodes:
            host?.received(nodeMessage: item.message, from: outboxes[slot].node)
        default: break  // A member asks whether it is one; its leader will show.
        }
    }

    /// A message to a region that this node has no peer of.
    func receiveForNobody(_ item: RegionMessage, _ slot: Int) {
        switch item.message.kind {
        case .introducePeer: consider(item, slot)
        case let kind where kind.isBetweenNodes:
            host?.received(nodeMessage: item.message, from: outboxes[slot].node)
        default:
            earlyAppends.keep(item, from: outboxes[slot].node, at: ticks)
            // What a peer that was here knew last may be news to one that was removed before it.
            guard let last = tombstones[item.region]?.last, Self.isAnswered(item.message.kind),
                last.member(item.message.from) == nil,
                item.epoch.confVersion < last.epoch.confVersion
            else { return }
            sayGone(item.message.from, last, from: .none, slot: slot)
        }
    }
}

// MARK: - Proposing

extension Lane {
    /// What this leader knows of its peers.
    func memberView(of region: Region) -> MemberView {
        let last = region.raft.lastIndex
        return MemberView(
            descriptor: region.descriptor, leader: region.peer, lastIndex: last,
            // What is handed on and not applied would be judged by a configuration that is past.
            isPending: region.raft.hasPendingConfChange || !region.handedChanges.isEmpty
                || !region.heldApplies.isEmpty,
            peers: region.descriptor.peers.map { member in
                let progress = region.raft.progress(of: member.peer)
                let isOwn = member.peer == region.peer
                return MemberView.Peer(
                    peer: member.peer, match: isOwn ? last : progress?.match ?? .zero,
                    isActive: isOwn || progress?.isHeard ?? false,
                    isUnfit: unfitNodes.contains(member.node))
            })
    }

    /// Proposes a change of a region's members, on its leader. On the lane's thread.
    ///
    /// - Returns: Where it stands in the log; it is done when an entry of that index and term is applied.
    @discardableResult
    package func propose(
        _ change: MemberChange, in id: RegionID
    ) throws(ChangeRefusal) -> (term: Term, index: LogIndex) {
        guard let region = region(withKeys: id) else { throw .unknownRegion }
        guard region.isLeader, region.raft.isLeader else { throw .notLeader }
        try memberView(of: region).check(change)
        defer {
            markDirty(region)
            if !isInPass { scheduleLocally() }
        }
        do throws(RaftError) {
            return try region.raft.proposeConfChange(change.entry(of: region.descriptor))
        } catch {
            switch error {
            case .proposalDropped(.changePending): throw .pending
            case .proposalDropped(.changeWhileJoint): throw .joint
            case .proposalDropped(.nothingToLeave): throw .notJoint
            case .proposalDropped(.transferring): throw .transferring
            case .proposalDropped(.notLeader), .proposalDropped(.removed): throw .notLeader
            case .proposalDropped(.tooManyUncommittedBytes), .overloaded: throw .overloaded
            default: throw .malformed("\(error)")
            }
        }
    }
}
