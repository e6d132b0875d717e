// Hot path. What groups want done: messages in, Ready out, log batches and what waits for them.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

#if BugBank
    import DequeModule
#endif

extension Lane {
    /// Messages from one peer node.
    func receive(_ delivery: PeerDelivery) {
        let slot = outbox(of: delivery.from)
        outboxes[slot].heardTick = ticks
        // A full log cannot take more: dropped appends are sent again (RULES 70).
        let isFull =
            batch.encodedBytes > Limits.maxUnsubmittedBytes || rare.takes(.appendsDropped)
        let messages = delivery.messages
        // By position: a message has references, which a copy would count.
        for position in messages.indices {
            guard let region = regions[messages[position].region] else {
                receiveForNobody(messages[position], slot)
                continue
            }
            // A node speaks only for its own peers, and of the region as it is (RULES 18).
            guard
                region.slot(of: messages[position].message.from) == slot
                    && region.descriptor.epoch == messages[position].epoch
                    || admits(messages[position], region, slot)
            else { continue }
            let kind = messages[position].message.kind
            // Where it could not lead well its leader goes on.
            if kind == .timeoutNow, isUnfit || region.awaitsKeys { continue }
            if kind.isAboveCores {
                receiveAboveCore(messages[position], region, slot)
                continue
            }
            // Of a snapshot the core hears when all of it is here.
            if kind == .installSnapshot {
                consider(messages[position].message, region)
                continue
            }
            if kind == .appendEntries || kind == .heartbeat { region.heardTick = ticks }
            if kind == .appendEntries, !region.holes.isEmpty || region.keysAreLost,
                takesNoEntries(region)
            {
                continue
            }
            if kind == .appendEntries, beginsTooEarly(messages[position].message, region) {
                continue
            }
            if kind == .appendEntries, !messages[position].message.entries.isEmpty {
                if isFull { continue }
                if isDiskFull {
                    stepWithRoom(messages[position].message, region)
                    continue
                }
            }
            step(messages[position].message, region)
        }
    }

    /// Hands a message from outside to its group. What the core refuses is dropped: peers repair.
    func step(_ message: Message, _ region: Region) {
        guard message.to == region.peer else { return }
        do {
            try region.raft.step(message)
        } catch {
            logger.debug(
                "message refused", metadata: ["region": "\(region.id)", "reason": "\(error)"])
        }
        markDirty(region)
    }

    /// Takes what the group wants done, until nothing is left.
    func takeReady(_ region: Region) {
        while region.raft.hasReady {
            region.raft.takeReady(into: &ready)
            if let soft = ready.softState { leadershipChanged(soft, region) }
            for state in ready.readStates { finishRound(state, region) }
            for position in ready.messages.indices {
                switch ready.messages[position].kind {
                case .storageAppend: handToLog(ready.messages[position], region)
                case .installSnapshot: offer(ready.messages[position], region)
                case .storageApply
                where region.heldApplies.isEmpty && !awaitsKeys(region)
                    && !ready.messages[position].entries.contains(where: Self.changesRegion):
                    handToApply(ready.messages[position], region)
                case .storageApply: holdChange(ready.messages[position], region)
                default: send(ready.messages[position], region)
                }
            }
            ready.messages.removeAll(keepingCapacity: true)
            if rare.takes(.oneReadyAPass) {
                markDirty(region)
                break
            }
        }
        if let fetch = region.log.startFetch() { startFetch(fetch, region) }
    }

    /// Puts a message in its node's outbox, or steps it if it is to this peer.
    func send(_ message: Message, _ region: Region) {
        if message.to == region.peer {
            step(message, region)
            return
        }
        guard let slot = region.slot(of: message.to) else { return }
        if !fullNodes.isEmpty, message.kind == .appendEntries, isVain(message, region, slot) {
            return
        }
        outboxes[slot].messages.append(
            RegionMessage(region: region.id, epoch: region.statedEpoch, message: message))
    }

    // MARK: The log

    /// Adds what must become durable to this pass's log batch; its responses wait for that.
    func handToLog(_ message: Message, _ region: Region) {
        if waitsForReset(message, region) { return }
        if let snapshot = message.snapshot {
            return beginReplacement(by: snapshot, message, region)
        }
        let hasVote = isNewVote(message, region)
        #if BugBank
            if PlantedBug.acknowledgesBeforeDurable.isPlanted {
                for response in message.responses where response.kind == .appendEntriesResponse {
                    send(response, region)
                }
            }
        #endif
        guard !message.entries.isEmpty || hasVote else {
            // Nothing to persist: a changed commit alone travels with the next entries. Only the
            // order behind appends of this region that are still under way is to be kept.
            if region.appendsInFlight == 0 {
                for response in message.responses { send(response, region) }
            } else if !message.responses.isEmpty {
                wait(InFlightBatch.Item(region: region, entries: [], responses: message.responses))
            }
            return
        }
        persist(votesOf: message, region)
        // The batch carries the commit index as of now (DESIGN 4).
        batch.append(
            region: region.id,
            hardState: hardStateToPersist(region),
            entries: message.entries)
        wait(
            InFlightBatch.Item(
                region: region, entries: message.entries, responses: message.responses))
    }

    /// Term and vote go with the batch in hand.
    func persist(votesOf message: Message, _ region: Region) {
        guard message.term > .zero else { return }
        region.persistedTerm = message.term
        region.persistedVote = message.vote
    }

    /// Whether term or vote are not what the log was last given.
    private func isNewVote(_ message: Message, _ region: Region) -> Bool {
        #if BugBank
            if PlantedBug.voteNotPersisted.isPlanted, message.vote != region.peer { return false }
        #endif
        return message.term > .zero
            && (message.term != region.persistedTerm || message.vote != region.persistedVote)
    }

    func hardStateToPersist(_ region: Region) -> HardState {
        #if BugBank
            if PlantedBug.voteNotPersisted.isPlanted, region.persistedVote != region.peer {
                return HardState(term: region.persistedTerm, commit: region.raft.committed)
            }
        #endif
        // While a snapshot waits to be installed, what it commits is not in the log.
        let commit =
            region.replacement == nil || region.replacement?.stage == .resetting
            ? region.raft.committed : min(region.raft.committed, region.log.lastIndex)
        return HardState(
            term: region.persistedTerm, vote: region.persistedVote, commit: commit)
    }

    /// Keeps responses back until this pass's batch is durable.
    func wait(_ item: InFlightBatch.Item) {
        item.region.appendsInFlight += 1
        batchItems.append(item)
    }

    /// Hands the pass's batch to the log. Full: it stays, grows, and is tried again when a sync ends.
    func submitBatch() {
        guard !batchItems.isEmpty || !batch.isEmpty else { return }
        if !batch.isEmpty, rare.takes(.batchSubmittedLate) { return scheduleLocally() }
        if batch.isEmpty {
            // Only responses, behind what is in flight already.
            invariant(!inFlight.isEmpty, "responses wait for a batch that does not exist")
            inFlight.append(
                InFlightBatch(
                    ticket: lastTicket, since: ticks, items: batchItems, turns: batchTurns))
        } else {
            do throws(WALError) {
                lastTicket = try log.submit(&batch, lane: index)
                inFlight.append(
                    InFlightBatch(
                        ticket: lastTicket, since: ticks, items: batchItems, turns: batchTurns))
                refusedSince = nil
            } catch {
                switch error.code {
                case .overloaded, .diskFull:
                    if refusedSince == nil { refusedSince = ticks }
                    return
                default: return fail(NodeError(error))
                }
            }
        }
        if !batchTurns.isEmpty { batchTurns = [] }
        batchItems = []
        batchItems.reserveCapacity(orderedRegions.count < 256 ? orderedRegions.count : 256)
    }

    /// Everything up to the ticket is durable: entries enter the groups' logs, responses go out.
    func completeDurable(upTo ticket: Ticket) {
        while let next = inFlight.first, next.ticket <= ticket {
            inFlight.removeFirst()
            for item in next.items {
                let region = item.region
                region.appendsInFlight -= 1
                invariant(region.appendsInFlight >= 0, "an append of \(region.id) ended twice")
                if region.isClosed { continue }
                if let reset = item.reset { finishReplacement(region, reset) }
                region.log.append(item.entries)
                #if BugBank
                    plantedAppend(item.entries, region)
                #endif
                if !item.entries.isEmpty {
                    observer?.durable(region: region.id, entries: item.entries)
                }
                for response in item.responses { send(response, region) }
                markDirty(region)
            }
            for turn in next.turns { completeTurn(turn) }
        }
    }

    // MARK: Leadership

    private func leadershipChanged(_ state: SoftState, _ region: Region) {
        let isLeader = state.role == .leader
        region.leader = state.leader
        if region.isLeader && !isLeader {
            region.isLeader = false
            failReads(region)
            #if BugBank
                if PlantedBug.depositionIsRejection.isPlanted {
                    while let proposal = region.proposals.popFirst() {
                        for waiter in proposal.waiters where !waiter.isAnswered {
                            reply(.failed(region.notLeader), waiter.sink, waiter.tag)
                        }
                    }
                }
            #endif
            for write in region.pendingWrites {
                reply(.failed(region.notLeader), write.sink, write.tag)
            }
            region.pendingWrites.removeAll(keepingCapacity: true)
            region.pendingWriteBytes = 0
            region.proposedCompaction = .zero
            region.proposedSplit = .zero
            region.isFirstLed = false
            forgetSplit(region)
            region.splitReason = .request
            region.aim = nil
            region.load = RegionLoad(region: region.id, threshold: options.splitLoadPerSecond)
        }
        region.isLeader = isLeader
        let term = region.raft.term
        host?.leaderChanged(
            region: region.id, leader: region.leaderNode, term: term, isLocal: isLeader)
    }

    // MARK: Older entries

    private func startFetch(_ fetch: LogFetch, _ region: Region) {
        let log = log
        let id = region.id
        let lane = self
        readWorker.run {
            do throws(WALError) {
                let entries = try log.entries(
                    region: id, from: fetch.from, to: fetch.to,
                    maxBytes: Int(clamping: fetch.maxBytes))
                lane.post(.fetched(id, entries))
            } catch {
                if let damage = error.damaged, log.repairsDamage {
                    lane.post(.damaged(damage))
                } else if error.code != .compacted && error.code != .unavailable {
                    return lane.fail(NodeError(error))
                }
                // Compacted or cut off since it was asked for, or to be repaired first. The core
                // asks again for what it still needs.
                lane.post(.fetched(id, []))
            }
        }
    }
}
