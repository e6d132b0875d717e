// What a lane does by the clock: Raft's ticks, patience, log compaction; and rare events.

import DequeModule
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    /// One tick of every group's timers; then a pass. On the lane's thread.
    package func tick() {
        guard !isStopped else { return }
        ticks += 1
        earlyAppends.forget(at: ticks)
        watchRoom()
        watchLog()
        for region in orderedRegions {
            for _ in 0..<ticksDue(region) { region.raft.tick() }
            if region.firstCampaigns > 0, logStall == nil, !region.raft.awaitsOwnVote {
                region.firstCampaigns -= 1
                if region.leader != .none {
                    region.firstCampaigns = 0
                } else if region.firstCampaigns % 3 == 0 {
                    region.raft.campaign()
                }
            }
            // Followers learn a quiet leader's last commit now rather than at the next heartbeat.
            if !rare.takes(.commitToldLate) { region.raft.flushCommit() }
            markDirty(region)
        }
        if !awaitingRegions.isEmpty { tickAwaiting() }
        if !snapshots.isIdle {
            tendOutgoing()
            tendIncoming()
        }
        if draining != nil { goOnDraining() }
        if ticks % Limits.ticksPerIntroduction == 0 { keepMembersInformed() }
        if holes > 0 || !awaitingRegions.isEmpty, ticks % Limits.ticksPerRequestOfEntries == 0 {
            askAgain()
        }
        if ticks % ticksPerSecond == 0 || rare.takes(.maintainedEarly) { maintain() }
        runPass()
    }

    /// Once a second.
    private func maintain() {
        let now = clock.now()
        learnWhoIsUnfit()
        for region in orderedRegions {
            expire(region, now)
            weighSnapshot(region)
            proposeCompaction(region)
            if region.splitWaiter != nil { loseSplitPatience(region) }
            if region.aim != nil { drive(region) }
            if !region.absent.isEmpty { driveRecovery(region) }
            if rare.isOn { meddle(region) }
            if let keeper = snapshotWork.keeper { keep(region, keeper) }
        }
        considerSplits()
        if orderedRegions.contains(where: { $0.compactionTarget >= $0.log.firstIndex }) {
            askFlushed()
        }
        if wantsPurge || rare.takes(.purgedUnasked) {
            wantsPurge = false
            let lane = self
            maintenanceWorker.run { lane.purge() }
        }
        if !remains.isEmpty { askCleared() }
        letGo()
        balanceLeaders()
        if orderedRegions.contains(where: {
            !$0.hasOwnBase || !$0.unflushedChildren.isEmpty || $0.unflushedSplit > .zero
        }) {
            askFlushedChildren(isAwaited: false)
        }
        if index == 0 {
            flushBehind()
            host?.tendRegistry()
        }
    }

    /// Frees the log's dead segments, oldest first, off the lane. What was written again to free a segment
    /// has to become durable first. That is waited for, so that rewriting keeps up with what is written,
    /// but not without bound: then it goes on a second later.
    private func purge() {
        var left = log.isThreaded ? Limits.rewritesPerPurge : 0
        do throws(WALError) {
            while true {
                switch try log.purgeStep() {
                case .removed:
                    if rare.takes(.purgedStepwise) { return post(.purgeAgain) }
                    continue
                case .carried(_, let ticket):
                    guard left > 0, log.waitUntilDurable(ticket) else {
                        return post(.purgeAgain)
                    }
                    left -= 1
                    continue
                case .pinned(let regions): host?.pinned(regions)
                case .done: break
                }
                return
            }
        } catch {
            fail(NodeError(error))
        }
    }

    /// Asks the state store to flush when too much log is unflushed: it bounds replay at restart.
    private func flushBehind() {
        let written = log.statistics.bytesWritten
        guard
            written >= flushedAtBytes + UInt64(options.maxUnflushedLogBytes)
                || rare.takes(.flushedUnasked)
        else { return }
        flushedAtBytes = written
        wantsPurge = true
        let applier = applier
        maintenanceWorker.run { applier.requestFlush() }
    }

    /// Clients whose deadline passed no longer wait: a proposed write may yet be applied.
    private func expire(_ region: Region, _ now: MonotonicTime) {
        for position in region.proposals.indices where region.proposals[position].deadline < now {
            expire(&region.proposals[position], now)
        }
        // Those wait while the region is being divided.
        for write in region.pendingWrites where write.deadline < now {
            region.pendingWriteBytes -= write.record.count
            reply(.failed(.rejected(.timedOut)), write.sink, write.tag)
        }
        region.pendingWrites.removeAll { $0.deadline < now }
        expire(&region.pendingReads, now)
        for position in region.roundsInFlight.indices {
            expire(&region.roundsInFlight[position].reads, now)
        }
        for position in region.roundsToApply.indices {
            expire(&region.roundsToApply[position].reads, now)
        }
        for position in region.dueReads.indices {
            expire(&region.dueReads[position].reads, now)
        }
    }

    /// Those that share an entry are not equally patient.
    private func expire(_ proposal: inout Proposal, _ now: MonotonicTime) {
        #if BugBank
            let answer =
                PlantedBug.timeoutIsRejection.isPlanted
                ? .rejected(.timedOut) : RequestError.outcomeUnknown
        #else
            let answer = RequestError.outcomeUnknown
        #endif
        var next = MonotonicTime(nanoseconds: .max)
        for position in proposal.waiters.indices where !proposal.waiters[position].isAnswered {
            let waiter = proposal.waiters[position]
            guard waiter.deadline < now else {
                next = min(next, waiter.deadline)
                continue
            }
            reply(.failed(answer), waiter.sink, waiter.tag)
            proposal.waiters[position].isAnswered = true
        }
        proposal.deadline = next
    }

    private func expire(_ reads: inout [PendingRead], _ now: MonotonicTime) {
        guard reads.contains(where: { $0.deadline < now }) else { return }
        for read in reads where read.deadline < now {
            reply(.failed(.rejected(.timedOut)), to: read)
        }
        reads.removeAll { $0.deadline < now }
    }

    // MARK: Compaction

    /// A leader lets the group agree to drop what every peer holds and it has applied.
    private func proposeCompaction(_ region: Region) {
        guard options.compactionInterval < .max, region.isLeader,
            region.proposedCompaction <= region.applied
        else { return }
        var index =
            applier.givesSnapshots(of: region.id)
            ? region.compactableIndex(options) : region.commonIndex()
        if let floor = snapshots.floor(of: region.id) { index = min(index, floor) }
        let last = max(region.compactionTarget, region.log.firstIndex - 1)
        // A region that hardly writes never gets that far; its few entries must not keep a segment
        // of all regions (RULES 41).
        let interval = region.pinsLog ? 1 : UInt64(options.compactionInterval)
        let isEarly = index > last && rare.takes(.compactedEarly)
        guard isEarly || index >= last + interval else { return }
        let payload = EntryPayload.encode(
            admin: .compactLog(upTo: index), epoch: region.descriptor.epoch,
            time: clock.wallNanoseconds())
        if let position = try? region.raft.propose(payload) {
            remember(
                Proposal(
                    index: position.index, term: position.term,
                    deadline: MonotonicTime(nanoseconds: .max), waiters: []), region)
            region.proposedCompaction = position.index
            region.pinsLog = false
            markDirty(region)
        }
    }

    /// State that is in memory only is written as a snapshot once the group agreed to compact, so many
    /// entries came since the last one, and as much log as makes it worth while; or it was waited for
    /// that long.
    private func keep(_ region: Region, _ keeper: SnapshotKeeper) {
        let kept = keeper.index(of: region.id)
        // Until then what came out of it is made of its log, which begins before.
        #if BugBank
            let waits = !PlantedBug.parentsLogGoesFirst.isPlanted
        #else
            let waits = true
        #endif
        guard !waits || region.unflushedChildren.isEmpty else { return }
        let version = region.descriptor.epoch.version
        guard region.hasOwnBase || region.replacement != nil else {
            return keeper.keep(region.birth.origin, of: cluster, version: version)
        }
        // Those who are to have what it gave away here wait for that.
        if region.unflushedSplit > kept, region.replacement == nil {
            region.appliedBytes = 0
            return keeper.keep(
                region.birth.origin, of: cluster, version: version, lastApplied: region.applied)
        }
        guard region.compactionTarget >= region.log.firstIndex, region.compactionTarget > kept,
            region.replacement == nil, applier.givesSnapshots(of: region.id)
        else { return region.waitsToBeKept = 0 }
        region.waitsToBeKept += 1
        let isDue =
            region.applied - kept >= UInt64(options.compactionInterval)
            && region.appliedBytes >= keeper.worthwhileBytes(of: region.id)
        guard isDue || region.waitsToBeKept > Limits.secondsUntilKept else { return }
        region.waitsToBeKept = 0
        region.appliedBytes = 0
        keeper.keep(
            region.birth.origin, of: cluster, version: version, lastApplied: region.applied)
    }

    /// Asks the state store, off the lane, what of each region is flushed (the flush barrier: log
    /// goes only when the state that replaces it is durable; DESIGN 5, RULES 40).
    private func askFlushed() {
        let ids = orderedRegions.filter { $0.compactionTarget >= $0.log.firstIndex }.map(\.id)
        let applier = applier
        let keeper = snapshotWork.keeper
        let lane = self
        maintenanceWorker.run {
            lane.post(
                .flushed(
                    ids.map {
                        ($0, keeper?.index(of: $0) ?? applier.flushedAppliedIndex(region: $0))
                    }))
        }
    }

    private func compact(_ region: Region, flushed: LogIndex) {
        #if BugBank
            let index =
                PlantedBug.compactsUnflushed.isPlanted
                ? min(region.compactionTarget, region.applied)
                : min(region.compactionTarget, flushed, region.applied)
        #else
            let index = min(region.compactionTarget, flushed, region.applied)
        #endif
        guard index >= region.log.firstIndex, region.replacement == nil else { return }
        let reach =
            rare.takes(.compactedPartly)
            ? region.log.firstIndex + (index - region.log.firstIndex) / 2 : index
        guard let term = try? region.log.term(at: reach) else { return }
        batch.compact(region: region.id, firstIndex: reach + 1, term: term)
        wantsPurge = true
        do {
            try region.log.compact(upTo: reach)
        } catch {
            invariant(false, "compaction of \(region.id) to \(reach) failed: \(error)")
        }
    }

    // MARK: Events

    func handle(_ event: LaneEvent) {
        switch event {
        case .unreachable(let node):
            for region in orderedRegions {
                guard let peer = region.descriptor.peer(on: node), peer.peer != region.peer else {
                    continue
                }
                region.raft.reportUnreachable(peer.peer)
                markDirty(region)
            }
        case .fetched(let id, let entries):
            guard let region = regions[id] else { return }
            region.log.finishFetch(rare.takes(.fetchedDropped) ? [] : entries)
            region.raft.storageFetched()
            markDirty(region)
        case .damaged(let entries): found(entries)
        case .readDue(let id, let read, let time):
            if let region = regions[id] {
                holdBack(read, until: time, region)
            } else {
                reply(.failed(.rejected(.unavailable("The region is gone from here."))), to: read)
            }
        case .keysLost(let id): keysAreLost(id)
        case .survey(let done):
            let (heard, standings) = survey()
            done(heard, standings)
        case .forced(let order, let absent): force(order, without: absent)
        case .abandon(let order, let done): abandon(order, done)
        case .readForPeer(let id, let message):
            peerReads -= 1
            if let region = regions[id], message.to != .none { send(message, region) }
        case .mended(let entries, let outcome): mended(entries, outcome)
        case .readDone(let replies):
            for deferred in replies {
                waitingReadBytes -= deferred.bytes
                reply(deferred.reply, deferred.sink, deferred.tag)
            }
        case .flushed(let indexes):
            for (id, applied) in indexes {
                if let region = regions[id] { compact(region, flushed: applied) }
            }
        case .snapshotMade(let region, let peer, let id, let snapshot):
            made(region, for: peer, id, snapshot)
        case .snapshotRead(let id, let peer, let snapshot, let chunk):
            read(chunk, of: snapshot, id, for: peer)
        case .snapshotWritten(let id, let snapshot, let isWritten):
            written(snapshot, id, isWritten)
        case .snapshotMeasured(let id, let bytes): measured(id, bytes)
        case .snapshotChecked(let id, let snapshot, let header): checked(snapshot, id, header)
        case .snapshotInstalled(let descriptor): installed(descriptor)
        case .install(let seeds, let node, let cluster, let router):
            take(seeds, node: node, cluster: cluster, router: router)
        case .drain(let done): drain(done)
        case .bear(let birth): bear(birth)
        case .splitsFlushed(let splits): splitsFlushed(splits)
        case .graves(let graves): remember(graves)
        case .allocated(let id, let peer): allocated(id, peer)
        case .cleared(let id, let isFlushed): cleared(id, isFlushed: isFlushed)
        case .based(let ids): based(ids)
        case .inquire(let id):
            if let region = regions[id], !region.isLeader { inquire(region) }
        case .flushDivisions: askFlushedChildren()
        case .splitAt(let id, let ask, let keys, let first):
            divide(id, ask, at: keys, firstID: first)
        case .splitRefused(let id, let ask, let reason): splitRefused(id, ask, reason)
        case .sized(let id, let marks): sized(id, marks)
        case .inherit(let id, let load):
            // One that lost its office while it awaited its keys begins the next with nothing.
            if let region = regions[id], region.raft.isLeader { region.load = load }
        case .tellTransfers(let gathering): gathering.take(transfers())
        case .tellLoads(let question, let gathering): gathering.take(loads(question))
        case .purgeAgain:
            wantsPurge = true
        case .pinned(let ids):
            for id in ids { regions[id]?.pinsLog = true }
        case .stop:
            stop()
        }
    }

    /// Answers everybody who waits; from now on requests are refused.
    private func stop() {
        isStopped = true
        endDraining()
        mailbox.close()
        let stopped = RequestError.rejected(Lane.stopping)
        for region in orderedRegions { dismiss(region, stopped) }
        flushSinks()
    }

    /// Answers everybody who waits for a region that nothing is done for any more.
    func dismiss(_ region: Region, _ reason: RequestError) {
        for write in region.pendingWrites { reply(.failed(reason), write.sink, write.tag) }
        forgetSplit(region)
        region.pendingWrites = []
        region.pendingWriteBytes = 0
        while let proposal = region.proposals.popFirst() {
            for waiter in proposal.waiters where !waiter.isAnswered {
                reply(.failed(.outcomeUnknown), waiter.sink, waiter.tag)
            }
        }
        var reads = region.pendingReads
        while let round = region.roundsInFlight.popFirst() { reads += round.reads }
        while let round = region.roundsToApply.popFirst() { reads += round.reads }
        for due in region.dueReads { reads += due.reads }
        region.dueReads = []
        region.pendingReads = []
        for read in reads { reply(.failed(reason), to: read) }
    }
}
