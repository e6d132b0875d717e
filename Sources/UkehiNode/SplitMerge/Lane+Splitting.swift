// A region is divided (DESIGN.md section 7, RULES 22-31).
//
//   committed ──> that it is, and the births of the new regions, durable by one batch of the log
//     ──> one atomic write: the new regions' states, the region's own, its applied index
//     ──> the region is smaller; the new ones are opened, the first leader of each leads at once
//
// Invariants
//   - A new region says nothing before its birth is durable, and has no keys before its parent's replay
//     has brought them. Since the parent's commit index is durable with the births, that replay needs
//     nobody else.
//   - Until the new regions' keys survive by themselves, their parent's log and kept snapshots stay.
//   - Nothing of a region may be replayed from before a division by a peer that was not there: the keys
//     are another's now. Such peers begin with a snapshot (``RegionBirth/logBegins``).

import DequeModule
import Logging
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
package import UkehiState
import UkehiWAL

extension Lane {
    /// Whether an entry changes the region itself, and is handed on by itself.
    static func changesRegion(_ entry: Entry) -> Bool {
        entry.kind != .normal || EntryPayload.isSplit(entry.data)
    }

    // MARK: Proposing

    /// Proposes to divide a region, on its leader. On the lane's thread.
    ///
    /// - Returns: Where it stands in the log. It is done when an entry of that index and term is applied, if
    ///   the region is by then as it is now; otherwise it changes nothing.
    @discardableResult
    package func propose(
        _ command: SplitCommand, in id: RegionID
    ) throws(SplitRefusal) -> (term: Term, index: LogIndex) {
        guard let region = region(withKeys: id) else { throw .unknownRegion }
        try checkMayBeDivided(region)
        let epoch = region.descriptor.epoch
        let (_, children) = try region.descriptor.splitting(by: command, epoch: epoch)
        for child in children where host?.knows(child.region) ?? true {
            throw .regionExists(child.region)
        }
        let payload = EntryPayload.encode(
            admin: .split(command), epoch: epoch, time: clock.wallNanoseconds())
        defer {
            markDirty(region)
            if !isInPass { scheduleLocally() }
        }
        do throws(RaftError) {
            let position = try region.raft.propose(payload)
            remember(
                Proposal(
                    index: position.index, term: position.term,
                    deadline: MonotonicTime(nanoseconds: .max), waiters: []), region)
            region.proposedSplit = position.index
            proposedSplit(region, at: position.index)
            return position
        } catch {
            switch error {
            case .proposalDropped(.transferring): throw .transferring
            case .proposalDropped(.notLeader), .proposalDropped(.removed): throw .notLeader
            default: throw .overloaded
            }
        }
    }

    /// Whether entries are from before a division that this peer was not there for: what they would divide is here
    /// already. A new leader that has not applied the division yet may send them; it sends a snapshot once it has.
    func beginsTooEarly(_ message: Message, _ region: Region) -> Bool {
        #if BugBank
            if PlantedBug.replaysBeforeSplit.isPlanted { return false }
        #endif
        return message.index < region.birth.logBegins
            && region.raft.lastIndex < region.birth.logBegins
    }

    /// Whether the region could be divided now, wherever that may be.
    func checkMayBeDivided(_ region: Region) throws(SplitRefusal) {
        guard region.isLeader, region.raft.isLeader else { throw .notLeader }
        guard !region.descriptor.isSystem else { throw .system }
        guard applier.splitsRegions else { throw .unsupported }
        guard region.proposedSplit <= region.applied, !region.raft.hasPendingConfChange,
            region.handedChanges.isEmpty, region.heldApplies.isEmpty, !region.descriptor.isJoint
        else { throw .pending }
    }

    // MARK: Births

    /// What a committed split comes to, from the region as the entry before it leaves it.
    func judgeSplit(
        _ entry: Entry, _ region: Region, _ descriptor: RegionDescriptor
    ) -> HandedChange {
        do throws(SplitRefusal) {
            guard applier.splitsRegions else { throw .unsupported }
            guard let header = try? EntryPayload.header(of: entry.data),
                case .split(let command)? = EntryPayload.admin(of: entry.data)
            else { throw .malformed }
            let (next, children) = try descriptor.splitting(by: command, epoch: header.epoch)
            let parting = RegionBirth.Parting(
                parent: region.id, peer: region.peer, index: entry.index)
            let births = children.filter { $0.peer(on: node ?? NodeID(0)) != nil }.map {
                RegionBirth(origin: $0, parting: parting)
            }
            return HandedChange(
                index: entry.index,
                outcome: .split(
                    HandedSplit(
                        next: next, children: children, births: births,
                        leaders: command.parts.map(\.leader))))
        } catch {
            logger.notice(
                "a division is void",
                metadata: [
                    "region": "\(region.id)", "index": "\(entry.index)", "reason": "\(error)",
                ])
            return HandedChange(index: entry.index, outcome: .void)
        }
    }

    /// Whether new regions come out of the entries that wait first, whose births are not durable yet; they
    /// are on their way then.
    func bearsChildren(_ first: HeldApply, _ region: Region) -> Bool {
        switch first.births {
        case .durable: return false
        case .underWay: return true
        case .unknown: break
        }
        var descriptor = region.handedDescriptor
        var staged: [RegionID] = []
        for entry in first.message.entries where Self.changesRegion(entry) {
            switch judge(entry, region, descriptor).outcome {
            case .void: continue
            case .members(_, let next): descriptor = next
            case .split(let split):
                descriptor = split.next
                for birth in split.births {
                    switch host?.standing(ofChild: birth.region) ?? .new {
                    case .new:
                        stage(birth, leaders: split)
                        staged.append(birth.region)
                    case .waiting, .gone: break
                    case .taken:
                        fail(.childIsThere(birth.region, of: region.id, at: entry.index))
                        return true
                    }
                }
            }
        }
        guard !staged.isEmpty else { return false }
        region.heldApplies[0].births = .underWay(staged)
        #if BugBank
            if PlantedBug.childBirthVolatile.isPlanted {
                region.heldApplies[0].births = .durable
                return false
            }
        #endif
        batchTurns.append(.parted(region))
        if !isInPass { scheduleLocally() }
        return true
    }

    private func stage(_ birth: RegionBirth, leaders split: HandedSplit) {
        let position = split.children.firstIndex { $0.region == birth.region } ?? 0
        let state = SplitRules.hardState(votingFor: split.leaders[position])
        batch.birth(region: birth.region, payload: birth.encoded(), hardState: state)
        batch.reset(
            region: birth.region, index: SplitRules.firstApplied,
            term: SplitRules.firstAppliedTerm, hardState: state)
    }

    /// The births of what comes out of the entries that wait first are durable.
    func childrenBorn(of region: Region) {
        guard !region.isClosed, !region.heldApplies.isEmpty else { return }
        region.heldApplies[0].births = .durable
        releaseChanges(upTo: .zero, region)
    }

    /// The region goes before it was divided here: what was to come out of it has nothing, and begins as a
    /// later peer does.
    func forsakeChildren(of region: Region) {
        for held in region.heldApplies {
            guard case .underWay(let children) = held.births else { continue }
            for child in children {
                batch.reset(region: child, index: .zero, term: .zero)
            }
        }
        region.heldApplies.removeAll()
    }

    // MARK: Applying

    /// What the state is to do with a split.
    func stateChange(_ split: HandedSplit) -> RegionChange {
        RegionChange(
            epoch: split.next.epoch, descriptor: split.next.encoded(), range: split.next.range,
            parts: split.children.map { child in
                RegionPart(
                    region: child.region, range: child.range, epoch: child.epoch,
                    applied: SplitRules.firstApplied, appliedTerm: SplitRules.firstAppliedTerm,
                    isHere: split.births.contains { $0.region == child.region }
                        && host?.standing(ofChild: child.region) != .gone)
            })
    }

    /// The entry is applied: the region is what is left of it.
    func applySplit(_ split: HandedSplit, at index: LogIndex, _ region: Region) {
        region.descriptor = split.next
        #if BugBank
            let begins = !PlantedBug.replaysBeforeSplit.isPlanted
        #else
            let begins = true
        #endif
        if begins { region.raft.setBeginning(max(region.birth.logBegins, LogIndex(1))) }
        region.parts = zip(split.children, split.leaders).map {
            $0.info(leader: $0.node(of: $1))
        }
        let born = split.births.filter { host?.standing(ofChild: $0.region) != .gone }
        region.unflushedChildren.formUnion(born.map(\.region))
        region.unflushedSplit = index
        host?.gave(split.children.map(\.range), by: region.id)
        logger.info(
            "a region was divided",
            metadata: [
                "region": "\(region.id)", "index": "\(index)", "epoch": "\(split.next.epoch)",
                "into": "\(split.children.map { "\($0.region)" }.joined(separator: " "))",
            ])
        observer?.divided(split.next, into: split.children, peer: region.peer, at: index)
        sendOn(region)
        record(split, born: born, at: index, region)
        host?.divided(split.next, into: born, leaders: split.leaders(of: born))
        // Those of this lane need not wait until what has been committed meanwhile is applied.
        for birth in born {
            if let child = regions[birth.region], child.awaitsKeys { keysCame(to: child) }
        }
        shareLoad(of: region, among: split.children)
        markDirty(region)
    }

    /// Who waits here for a key that the region has no more is sent on.
    private func sendOn(_ region: Region) {
        let answer = Reply.failed(.rejected(.staleEpoch(current: [region.info] + region.parts)))
        func isOurs(_ key: Bytes?) -> Bool {
            key.map { region.descriptor.range.contains($0) } ?? true
        }
        let writes = region.pendingWrites
        region.pendingWrites.removeAll { !isOurs(CommandRecord.key(of: $0.record)) }
        for write in writes where !isOurs(CommandRecord.key(of: write.record)) {
            region.pendingWriteBytes -= write.record.count
            reply(answer, write.sink, write.tag)
        }
        let reads = region.pendingReads
        region.pendingReads.removeAll { !isOurs($0.key) }
        for read in reads where !isOurs(read.key) { reply(answer, to: read) }
    }

    // MARK: Until the new regions stand by themselves

    /// Asks the state, off the lane, which new regions' keys survive a crash by now, and to flush if some do
    /// not and somebody waits for that; otherwise not with each second of many divisions, since small files
    /// have to be merged into large ones.
    func askFlushedChildren(isAwaited: Bool = true) {
        let pause = (isAwaited ? 1 : Limits.secondsUntilDivisionsFlushed) * ticksPerSecond
        let flushes = askedToFlushAt.map { ticks >= $0 + pause } ?? true
        if flushes { askedToFlushAt = ticks }
        var wanted: Set<RegionID> = []
        for region in orderedRegions {
            wanted.formUnion(region.unflushedChildren)
            if !region.hasOwnBase { wanted.insert(region.id) }
        }
        let splits = orderedRegions.filter { $0.unflushedSplit > .zero }.map {
            ($0.id, $0.unflushedSplit)
        }
        guard !wanted.isEmpty || !splits.isEmpty else { return }
        let ids = wanted.sorted()
        let applier = applier
        let keeper = snapshotWork.keeper
        let lane = self
        maintenanceWorker.run {
            let based = ids.filter {
                (keeper?.index(of: $0) ?? applier.flushedAppliedIndex(region: $0))
                    >= SplitRules.firstApplied
            }
            let flushed = splits.filter { id, index in
                (keeper?.index(of: id) ?? applier.flushedAppliedIndex(region: id)) >= index
            }
            if flushes, based.count < ids.count || flushed.count < splits.count {
                applier.requestFlush()
            }
            if !based.isEmpty { lane.post(.based(based)) }
            if !flushed.isEmpty { lane.post(.splitsFlushed(flushed)) }
        }
    }

    /// These regions' keys survive by themselves, or need not survive here.
    func based(_ ids: [RegionID]) {
        for id in ids { regions[id]?.hasOwnBase = true }
        for region in orderedRegions where !region.unflushedChildren.isEmpty {
            region.unflushedChildren.subtract(ids)
        }
        letGo()
    }

    /// No crash undoes these divisions any more.
    func splitsFlushed(_ splits: [(RegionID, LogIndex)]) {
        for (id, index) in splits {
            guard let region = regions[id], region.unflushedSplit == index else { continue }
            region.unflushedSplit = .zero
            host?.keepsGiven(by: id)
        }
    }

    /// Regions that were to go, and whose logs nothing needs any more, go.
    func letGo() {
        for region in orderedRegions.filter({ $0.leavesAs != nil }) {
            if let last = region.leavesAs { leave(region, as: last) }
        }
    }
}

extension NodeError {
    /// Leaders propose no such division (RULES 17), so that this is none of their doing. To carry it out would take
    /// the other region's log; not to would make this replica another one than those on nodes without that region.
    fileprivate static func childIsThere(
        _ child: RegionID, of parent: RegionID, at index: LogIndex
    ) -> NodeError {
        NodeError(
            code: .corrupted,
            message:
                "Entry \(index) of region \(parent) divides it into region \(child), and another region of that id "
                + "is here. Nothing was changed. Look at the entry with `ukehi wal dump`, and restore the "
                + "cluster from a backup if no leader of region \(parent) can have written it.")
    }
}

extension HandedSplit {
    /// The first leaders of some of the new regions, in their order.
    func leaders(of births: [RegionBirth]) -> [PeerID] {
        births.map { birth in
            leaders[children.firstIndex { $0.region == birth.region } ?? 0]
        }
    }
}

extension SplitRules {
    /// What every member of a new region begins with.
    static func hardState(votingFor leader: PeerID) -> HardState {
        HardState(term: firstTerm, vote: leader, commit: firstApplied)
    }
}
