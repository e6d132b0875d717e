// How a peer that is a member no more goes from its node (RULES 18, 20, 21).
//
//   it has applied its own removal, or is told of it by a peer of a newer configuration
//     -> closed: nothing is done for it any more, who waited is answered
//     -> tombstone in the log, durable
//     -> its keys leave the state, but for those that are another region's now; done again at a start
//     -> that is flushed, too: from now on a later peer of the region may come to be here
//
// Nobody goes for having heard nothing: such a peer asks.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

/// What a region that is gone has left on this node.
struct Remains {
    /// Whose they are.
    var peer: PeerID
    /// Its keys are removed, but a crash could bring them back; until then the tombstone is not durable, or
    /// they are being removed.
    var isRemoved = false
}

extension Lane {
    /// Tells a peer that it is no member any more, and what the region is now.
    func sayGone(_ peer: PeerID, _ last: RegionDescriptor, from: PeerID, slot: Int) {
        outboxes[slot].messages.append(
            RegionMessage(
                region: last.region, epoch: last.epoch,
                message: Message(
                    kind: .peerIsGone, to: peer, from: from, context: last.encoded())))
        if !isInPass { scheduleLocally() }
    }

    /// Somebody says that this node's peer is no member any more. So it is if a newer configuration than
    /// any that this peer was ever in has it not: ids do not come back.
    func toldGone(_ item: RegionMessage, _ region: Region) {
        guard item.message.to == region.peer,
            let last = try? RegionDescriptor.decode(item.message.context),
            last.region == region.id, last.epoch == item.epoch,
            last.epoch.confVersion > region.knownConfVersion, last.member(region.peer) == nil,
            // What is being written would come behind what clears it away: it asks again.
            region.replacement == nil
        else { return }
        leave(region, as: last)
    }

    /// The region's peer here is a member no more, as of `last`: it goes.
    func leave(_ region: Region, as last: RegionDescriptor) {
        guard !region.isClosed else { return }
        // Its log is what regions that came out of it would be made of after a crash. And what is being applied
        // comes, whoever has gone meanwhile: new regions of which nobody would know (seed 2900561 of `splits`).
        let isBeingDivided = region.handedChanges.contains { change in
            if case .split = change.outcome { true } else { false }
        }
        // Nor is what is being put in its place cleared away in the middle of that.
        let isBeingReplaced = region.replacement.map { $0.stage != .waiting } ?? false
        let awaited = host?.awaitedIndex(of: region.id)
        #if BugBank
            let waits = !PlantedBug.parentsLogGoesFirst.isPlanted
        #else
            let waits = true
        #endif
        guard !waits || region.unflushedChildren.isEmpty, !isBeingDivided, !isBeingReplaced,
            // Nor what a division that is being applied will write.
            !region.awaitsKeys || region.keysAreLost,
            awaited.map({ cannotReplay(region, upTo: $0) }) ?? true,
            !isLink(region, isAwaited: awaited != nil)
        else {
            region.leavesAs = last
            return askFlushedChildren()
        }
        logger.notice(
            "a peer is a member no more and goes",
            metadata: [
                "region": "\(region.id)", "peer": "\(region.peer)", "epoch": "\(last.epoch)",
            ])
        region.isClosed = true
        forsakeChildren(of: region)
        endSnapshots(of: region)
        holes -= region.holes.count
        region.holes = []
        regions[region.id] = nil
        orderedRegions.removeAll { $0 === region }
        awaitingRegions.removeAll { $0 === region }
        routeRegions()
        // What it had still to apply does not matter any more.
        applyBatch.items.removeAll { item in
            guard item.region == region.id else { return false }
            for entry in item.entries { applyBytes -= entry.recordBytes }
            return true
        }
        dismiss(region, .rejected(.notLeader(last.info(leader: nil))))
        observer?.closed(region: region.id, peer: region.peer)
        host?.left(last, held: region.descriptor.range)
        var kept = last
        // What is cleared away is what this peer held.
        kept.range = region.descriptor.range
        let tombstone = RegionTombstone(peer: region.peer, epoch: last.epoch, last: kept)
        tombstones[region.id] = tombstone
        remains[region.id] = Remains(peer: region.peer)
        #if BugBank
            let leavesTombstone = !PlantedBug.tombstoneNotDurable.isPlanted
        #else
            let leavesTombstone = true
        #endif
        if leavesTombstone { batch.tombstone(region: region.id, payload: tombstone.encoded()) }
        batchTurns.append(.left(tombstone))
        if !isInPass { scheduleLocally() }
    }

    /// Whether a crash would undo the division that a region came out of, and only by it is known that what came out
    /// of itself has to wait for that to be done again.
    private func isLink(_ region: Region, isAwaited: Bool) -> Bool {
        guard region.birth.parting != nil, region.birth.introduction == nil,
            isAwaited || region.descriptor.epoch.version > region.birth.origin.epoch.version
        else { return false }
        return host?.isGiven(region.birth.origin.range) ?? false
    }

    /// A region's birth or tombstone is durable.
    func completeTurn(_ turn: InFlightBatch.Turn) {
        switch turn {
        case .born(let birth): host?.born(birth)
        case .committed(let region, let index): releaseChanges(upTo: index, region)
        case .parted(let region): childrenBorn(of: region)
        case .left(let tombstone):
            abandoned.removeValue(forKey: tombstone.last.region)?(nil)
            observer?.buried(region: tombstone.last.region, peer: tombstone.peer)
            host?.buried(tombstone.last.region)
            clear(tombstone)
        }
    }

    /// Takes what is left of a region out of the state, off the lane and behind what is being applied.
    private func clear(_ tombstone: RegionTombstone) {
        let last = tombstone.last
        let applier = applier
        let keeper = snapshotWork.keeper
        let lane = self
        applyWorker.run {
            do throws(FileError) {
                try keeper?.forget(last.region)
            } catch {
                return lane.fail(
                    NodeError(
                        code: .ioFailed,
                        message: "What was kept of region \(last.region) was not removed: \(error)."
                    ))
            }
            do throws(StateError) {
                try applier.remove(
                    region: last.region, system: last.isSystem, range: last.range,
                    keeping: last.isSystem ? [] : lane.host?.liveRanges() ?? [],
                    grave: tombstone.peer.rawValue)
            } catch {
                return lane.fail(NodeError(error))
            }
            lane.post(.cleared(last.region, isFlushed: false))
        }
    }

    /// The state has taken a removal, or has made it durable.
    func cleared(_ id: RegionID, isFlushed: Bool) {
        guard remains[id] != nil else { return }
        #if BugBank
            let isFlushed = isFlushed || PlantedBug.removalNotFlushed.isPlanted
        #endif
        guard isFlushed else {
            remains[id]?.isRemoved = true
            return askCleared()
        }
        remains[id] = nil
        host?.cleared(id)
    }

    /// Asks the state, off the lane, whether what was removed can come back.
    func askCleared() {
        let removed = remains.filter(\.value.isRemoved).map { (id: $0.key, peer: $0.value.peer) }
            .sorted { $0.id < $1.id }
        guard !removed.isEmpty else { return }
        let applier = applier
        let lane = self
        maintenanceWorker.run {
            var isWaiting = false
            for (id, peer) in removed {
                if applier.isRemovalFlushed(region: id, grave: peer.rawValue) {
                    lane.post(.cleared(id, isFlushed: true))
                } else {
                    isWaiting = true
                }
            }
            if isWaiting { applier.requestFlush() }
        }
    }

    /// What this node had peers of, from its log; their remains were removed as it started.
    func remember(_ graves: [RegionTombstone]) {
        for tombstone in graves {
            tombstones[tombstone.last.region] = tombstone
            remains[tombstone.last.region] = Remains(peer: tombstone.peer, isRemoved: true)
        }
        askCleared()
    }
}
