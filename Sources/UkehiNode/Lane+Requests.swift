// Hot path. What clients ask: routing by key, packing the writes of one pass into one entry per
// region, one read index for the reads of one pass.

import DequeModule
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    /// Sorts one request to its region, or answers it.
    func accept(_ request: ClientRequest) {
        guard !hasLongKey(request) else {
            return reply(
                .failed(.rejected(.invalid("\(CommandError.keyTooLong)"))), request.sink,
                request.tag)
        }
        if case .members(let id, let ask) = request.operation {
            return answer(ask, of: id, request)
        }
        guard let region = region(for: request) else { return }
        switch request.operation {
        case .write(let record):
            guard region.isLeader else {
                return reply(.failed(region.notLeader), request.sink, request.tag)
            }
            // A record that lies about its length would spoil its neighbours in the entry.
            do throws(CommandError) {
                _ = try CommandRecord.validate(record)
            } catch {
                return reply(
                    .failed(.rejected(.invalid("\(error)"))), request.sink, request.tag)
            }
            guard hasRoom(for: record, region) else {
                return reply(.failed(.rejected(.diskFull)), request.sink, request.tag)
            }
            guard !isOverloaded, !rare.takes(.writeRefused),
                region.pendingWriteBytes + record.count
                    <= (region.isBeingDivided
                        ? Limits.maxHeldWriteBytes : Limits.maxQueuedRequestBytes)
            else { return reply(.failed(.rejected(.overloaded)), request.sink, request.tag) }
            region.load.countWrite(request.key, bytes: record.count)
            region.pendingWriteBytes += record.count
            region.pendingWrites.append(
                PendingWrite(
                    record: record, sink: request.sink, tag: request.tag,
                    deadline: request.deadline))
            markDirty(region)
        case .get(let mode), .scan(_, _, let mode), .query(_, let mode):
            // While a snapshot replaces it the state may be half of it (RULES 48).
            guard (mode == .stale && region.replacement?.stage != .installing) || region.isLeader
            else {
                return reply(.failed(region.notLeader), request.sink, request.tag)
            }
            guard !rare.takes(.readRefused) else {
                return reply(.failed(.rejected(.overloaded)), request.sink, request.tag)
            }
            guard let bytes = admitRead(request) else { return }
            let read = PendingRead(
                operation: request.operation, key: request.key, sink: request.sink,
                tag: request.tag, deadline: request.deadline, bytes: bytes,
                mindsClock: mode != .stale)
            if mode == .stale { return serve(read, region) }
            // Lease reads take the same round until leases exist: slower than promised to a
            // caller who trusts clocks, never staler.
            region.pendingReads.append(read)
            markDirty(region)
        case .split(let keys): divide(region, at: keys, request)
        case .digest:
            digest(region, request)
        case .topology, .members, .transfers, .loads, .recovery:
            reply(
                .failed(.rejected(.invalid("Topology is asked of a node, not of a region."))),
                request.sink, request.tag)
        }
    }

    private func hasLongKey(_ request: ClientRequest) -> Bool {
        if request.key.count > Limits.maxKeyBytes { return true }
        return switch request.operation {
        case .scan(let upper, _, _): upper.count > Limits.maxKeyBytes
        case .split(let keys): keys.contains { $0.count > Limits.maxKeyBytes }
        default: false
        }
    }

    /// Counts a read among those that wait, wherever they do; what it counts for is given back with
    /// its answer. Nil: there are too many, and it was answered.
    private func admitRead(_ request: ClientRequest) -> Int? {
        let bytes = request.queuedBytes + Limits.readOverheadBytes
        guard waitingReadBytes + bytes <= Limits.maxQueuedRequestBytes else {
            reply(.failed(.rejected(.overloaded)), request.sink, request.tag)
            return nil
        }
        waitingReadBytes += bytes
        return bytes
    }

    /// Answers a read that was admitted.
    func reply(_ answer: Reply, to read: PendingRead) {
        waitingReadBytes -= read.bytes
        reply(answer, read.sink, read.tag)
    }

    /// The region that is asked, after checking what the client believes; nil: answered.
    private func region(for request: ClientRequest) -> Region? {
        if let expected = request.expected {
            guard let region = region(withKeys: expected.region) else {
                reply(
                    .failed(.rejected(.staleEpoch(current: current(for: request.key)))),
                    request.sink, request.tag)
                return nil
            }
            // Equality, not order; of the range alone, since other members hold the same keys (RULES 22).
            guard region.descriptor.epoch.version == expected.epoch.version,
                region.descriptor.range.contains(request.key)
            else {
                reply(
                    .failed(
                        .rejected(
                            .staleEpoch(current: [region.info] + region.parts))
                    ), request.sink, request.tag)
                return nil
            }
            return region
        }
        guard let position = router.position(for: request.key), position < routedRegions.count,
            let region = routedRegions[position], !rare.takes(.routeUnknown)
        else {
            let answer =
                host?.elsewhere(request.key)
                ?? .unavailable("No region of this node holds the key.")
            reply(.failed(.rejected(answer)), request.sink, request.tag)
            return nil
        }
        // The region was divided a moment ago: the table follows.
        guard region.descriptor.range.contains(request.key) else {
            reply(
                .failed(.rejected(.staleEpoch(current: [region.info] + region.parts))),
                request.sink, request.tag)
            return nil
        }
        return region
    }

    private func current(for key: Bytes) -> [RegionInfo] {
        guard let position = router.position(for: key), position < routedRegions.count,
            let region = routedRegions[position]
        else { return [] }
        return [region.info]
    }

    /// Log or apply queue are behind: new writes are refused until they catch up.
    var isOverloaded: Bool {
        batch.encodedBytes > Limits.maxUnsubmittedBytes || applyBytes > Limits.maxQueuedRequestBytes
    }

    // MARK: Writes

    /// Packs the region's waiting writes into entries, at most 256 commands and 1 MiB each, or one
    /// larger command alone, and proposes them.
    func proposePending(_ region: Region) {
        if rare.takes(.proposedLate) { return markDirty(region) }
        // What is proposed behind a division names an epoch that is past when its turn comes (RULES 23).
        if region.isBeingDivided { return region.heldWrites = true }
        if region.heldWrites {
            region.heldWrites = false
            judgeAgain(region)
        }
        let writes = region.pendingWrites
        // A fresh array is cheaper than a copy: the old one becomes the waiters of an entry.
        region.pendingWrites = []
        region.pendingWrites.reserveCapacity(min(writes.count, Limits.maxCommandsPerEntry))
        region.pendingWriteBytes = 0
        guard region.isLeader else {
            for write in writes { reply(.failed(region.notLeader), write.sink, write.tag) }
            return
        }
        let now = clock.now()
        let time = clock.wallNanoseconds()
        var start = 0
        while start < writes.count {
            packer.begin(epoch: region.descriptor.epoch, time: time)
            var end = start
            var expired = false
            var deadline = MonotonicTime(nanoseconds: .max)
            while end < writes.count, packer.count < Limits.maxCommandsPerEntry {
                let write = writes[end]
                if write.deadline < now {
                    expired = true
                    break
                }
                if packer.count > 0,
                    packer.byteCount + write.record.count > Limits.maxPackedEntryBytes
                {
                    break
                }
                packer.append(write.record)
                deadline = min(deadline, write.deadline)
                end += 1
                if rare.takes(.commandAlone) { break }
            }
            if packer.count > 0 {
                let waiters =
                    start == 0 && end == writes.count ? writes : Array(writes[start..<end])
                propose(packer.finish(), waiters, deadline: deadline, region)
            } else {
                packer.cancel()
            }
            if expired {
                reply(.failed(.rejected(.timedOut)), writes[end].sink, writes[end].tag)
                end += 1
            }
            start = end
        }
    }

    private func propose(
        _ payload: Bytes, _ waiters: [PendingWrite], deadline: MonotonicTime, _ region: Region
    ) {
        do {
            let position = try region.raft.propose(payload)
            remember(
                Proposal(
                    index: position.index, term: position.term, deadline: deadline,
                    waiters: waiters), region)
        } catch {
            // Refused before anything was appended: full of uncommitted entries, no longer the
            // leader, or handing leadership over.
            let answer: RequestError =
                region.raft.isLeader ? .rejected(.overloaded) : region.notLeader
            for waiter in waiters { reply(.failed(answer), waiter.sink, waiter.tag) }
        }
    }

    /// Keeps who waits for an entry that was just appended. Invariant: ascending by index.
    ///
    /// Older proposals at or past its index were cut off by another leader in between. Whether a
    /// peer that still has them ever leads is not known here.
    func remember(_ proposal: Proposal, _ region: Region) {
        while let last = region.proposals.last, last.index >= proposal.index {
            region.proposals.removeLast()
            for waiter in last.waiters where !waiter.isAnswered {
                reply(.failed(.outcomeUnknown), waiter.sink, waiter.tag)
            }
        }
        region.proposals.append(proposal)
    }

    // MARK: Reads

    /// Starts one read-index round for the region's waiting reads; while one is under way they
    /// collect (RULES 52: a round serves only reads queued before it was sent).
    func askReadIndex(_ region: Region) {
        guard region.isLeader else { return failReads(region) }
        guard region.roundsInFlight.isEmpty || rare.takes(.roundsOverlap) else { return }
        if rare.takes(.roundAskedLate) { return markDirty(region) }
        // A group of one answers itself at once, and before it has committed in its own term its
        // commit index may lag what it acknowledged before a restart (RULES 52). The region comes
        // back here when that entry is applied.
        #if BugBank
            let asksEarly = PlantedBug.readsBeforeOwnCommit.isPlanted
        #else
            let asksEarly = false
        #endif
        guard region.raft.hasCommittedInTerm || asksEarly else { return }
        let context = region.nextReadContext
        region.nextReadContext += 1
        contexts.append(context)
        var reads = region.pendingReads
        region.pendingReads = []
        region.pendingReads.reserveCapacity(reads.count)
        if rare.isOn, reads.count > 1, rare.takes(.readAlone) {
            region.pendingReads.append(contentsOf: reads[1...])
            reads.removeSubrange(1...)
        }
        region.roundsInFlight.append(ReadRound(context: context, reads: reads))
        do {
            try region.raft.readIndex(context: contexts.take())
        } catch {
            failReads(region)
        }
    }

    /// A quorum confirmed the leader: its reads wait for the index only.
    func finishRound(_ state: ReadState, _ region: Region) {
        var reader = ByteReader(state.context)
        guard let context = try? reader.read(UInt64.self) else { return }
        while let round = region.roundsInFlight.first, round.context <= context {
            region.roundsInFlight.removeFirst()
            #if BugBank
                if PlantedBug.readsUnapplied.isPlanted {
                    for read in round.reads { serve(read, region) }
                    continue
                }
            #endif
            if state.index <= region.applied {
                for read in round.reads { serve(read, region) }
            } else {
                region.roundsToApply.append((state.index, round.reads))
            }
        }
        if !region.pendingReads.isEmpty { markDirty(region) }
    }

    /// Serves the reads whose index is applied now.
    func serveApplied(_ region: Region) {
        while let next = region.roundsToApply.first, next.index <= region.applied {
            region.roundsToApply.removeFirst()
            for read in next.reads { serve(read, region) }
        }
    }

    /// Leadership is gone: unserved reads go elsewhere. Rounds whose index is known stay, they
    /// were linearizable when the quorum answered.
    func failReads(_ region: Region) {
        let answer = Reply.failed(region.notLeader)
        for read in region.pendingReads { reply(answer, to: read) }
        region.pendingReads.removeAll(keepingCapacity: true)
        while let round = region.roundsInFlight.popFirst() {
            for read in round.reads { reply(answer, to: read) }
        }
        failDueReads(region)
    }

    /// Reads what is applied: from memory here, from disk on the read thread.
    func serve(_ read: PendingRead, _ region: Region) {
        guard let request = readRequest(read) else { return }
        // The region may have given the key away since it was asked: what it knows of it is past (RULES 28).
        #if BugBank
            let looks = !PlantedBug.readsOutlastSplit.isPlanted
        #else
            let looks = true
        #endif
        guard !looks || region.descriptor.range.contains(read.key) else {
            return reply(
                .failed(.rejected(.staleEpoch(current: [region.info] + region.parts))), to: read)
        }
        // Long reads one after the other are long, too: the read thread has time for them.
        let hasTime = readBytesInPass < Limits.maxReadBytesInPass
        let now = read.mindsClock && region.isLeader ? wallTimeOfPass() : 0
        let outcome =
            hasTime
            ? applier.read(region: region.id, request, tier: .cacheOnly, now: now) : .wouldBlock
        readBytesInPass += outcome.readBytes
        if region.isLeader { count(read, outcome, region) }
        switch outcome {
        case .wouldBlock:
            let applier = applier
            let id = region.id
            let lane = self
            readWorker.run {
                let outcome = applier.read(region: id, request, tier: .any, now: now)
                if case .due(let time) = outcome { return lane.post(due: read, at: time, in: id) }
                lane.post(
                    readDone: DeferredReply(
                        sink: read.sink, tag: read.tag, reply: Lane.reply(for: outcome),
                        bytes: read.bytes))
            }
        case .due(let time): holdBack(read, until: time, region)
        default: reply(Lane.reply(for: outcome), to: read)
        }
    }

    /// Among what is asked of a region that is led here.
    private func count(_ read: PendingRead, _ outcome: ReadOutcome, _ region: Region) {
        func end() -> Bytes? {
            guard case .scan(let upper, _, _) = read.operation else { return nil }
            if case .scan(let page) = outcome, let next = page.next { return next }
            let own = region.descriptor.range.upper
            return upper.isEmpty || (!own.isEmpty && own < upper) ? own : upper
        }
        region.load.countRead(read.key, to: end(), bytes: outcome.costBytes)
    }

    /// The digest reads all of a region: on the read thread, unless the state is in memory.
    private func digest(_ region: Region, _ request: ClientRequest) {
        let applier = applier
        let id = region.id
        @Sendable func answer() -> Reply {
            do {
                return .digest(try applier.digest(region: id))
            } catch {
                return .failed(.rejected(.unavailable("\(error)")))
            }
        }
        if applier.appliesInline { return reply(answer(), request.sink, request.tag) }
        guard let bytes = admitRead(request) else { return }
        let lane = self
        readWorker.run {
            lane.post(
                readDone: DeferredReply(
                    sink: request.sink, tag: request.tag, reply: answer(), bytes: bytes))
        }
    }

    private func readRequest(_ read: PendingRead) -> ReadRequest? {
        switch read.operation {
        case .get: .get(read.key)
        case .scan(let upper, let limit, _): .scan(lower: read.key, upper: upper, limit: limit)
        case .query(let body, _): .query(key: read.key, body)
        default: nil
        }
    }

    static func reply(for outcome: ReadOutcome) -> Reply {
        switch outcome {
        case .value(let value): .value(value)
        case .scan(let page): .scan(page)
        case .query(let bytes): .query(bytes)
        case .failed(let error) where error.code == .unsupported:
            .failed(.rejected(.invalid("\(error)")))
        case .failed(let error): .failed(.rejected(.unavailable("\(error)")))
        case .wouldBlock, .due: .failed(.rejected(.overloaded))
        }
    }
}

extension ReadOutcome {
    /// Bytes that were read, about.
    fileprivate var readBytes: Int {
        switch self {
        case .value(let value): value?.value.count ?? 0
        case .scan(let page): page.byteCount
        case .query(let bytes): bytes.count
        case .failed, .wouldBlock, .due: 0
        }
    }
}
