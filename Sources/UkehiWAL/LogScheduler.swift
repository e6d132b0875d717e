// Hot path. The fsync scheduler: the synchronous core that decides what is written where, and what
// is durable. It never blocks, sleeps, locks or touches a file; its owner calls it under one lock.
//
//   stage(batch)  ->  queued groups  ->  next(): a frame to write   ->  completed(group)
//                        collecting       at most maxGroupsInFlight       retired in log order
//
// Invariants
//   - A group in flight lies behind all of the groups before it; LSNs are consecutive.
//   - durableLSN is the last frame that is durable together with all before it. Tickets are given
//     out only up to it (TESTING R1).
//   - Rotation is a barrier: a new segment gets its first frame when nothing else is in flight.
//   - After a failure nothing becomes durable and nothing is written any more.
//
// A waiting group is written as soon as a writer is free; while all are busy, batches join it. So
// batch size follows load, without a timer.

import UkehiBase
import UkehiEnvironment

/// What the driver is asked to do, on a thread that may block.
package enum LogWork {
    /// Write the group's frame durably, then call ``LogScheduler/completed(_:)``.
    case frame(Group)
    /// Turn the prepared segment into the next one, then call ``LogScheduler/activated(_:)``.
    case activate(SegmentHeader)
}

struct LogScheduler {
    let options: WALOptions
    private let rare: RarePaths
    let regions: RegionTable
    private(set) var active: SegmentFile?
    /// What is needed of each segment.
    let use: SegmentUse

    private var queued: ContiguousArray<Group> = []
    private var inFlight: ContiguousArray<Group> = []
    private var idleGroups: ContiguousArray<Group> = []
    private var idleBuffers: ContiguousArray<FrameBuffer> = []
    private var idleStorages: ContiguousArray<BatchStorage> = []
    /// Bounded by half of the queue's bound.
    private var idleStorageBytes = 0

    private(set) var nextLSN: UInt64
    private(set) var durableLSN: UInt64
    private(set) var lastTicket: UInt64 = 0
    private(set) var durableTicket: UInt64 = 0
    private(set) var queuedBytes = 0
    private(set) var isActivating = false
    /// Whether this segment was known to be the last when the one that is being activated was asked for.
    private var isActivatingLast = false
    private(set) var failure: WALError?

    /// Where the next frame goes in the active segment, and what it follows.
    private var endOffset: UInt64
    private var lastWrittenLSN: UInt64
    private var lastChecksum: UInt32
    var footers: FooterQueue
    /// No segment is there to follow the active one, nor room for one. The owner's to say.
    var isLast = false
    /// More of the active segment could not be zeroed when that was last tried.
    var failsToZero = false

    /// The newest durable frame with records, and the newest LSN that a durable frame claims.
    private var lastDataLSN: UInt64
    private var claimedLSN: UInt64
    private var wantsClaim = false
    /// Whether entries were ever said again: segments from then on may hold that, and no others, so
    /// that a log without can be read by those who do not know of it.
    private var mayHoldRewrites = false
    /// Records under way that take entries from a region's log, from an index on. Oldest first; there are
    /// hardly ever any.
    private var cuts: ContiguousArray<LogTail> = []

    /// Tickets that became durable and were not told to their lanes yet, one per lane.
    var deliveries: ContiguousArray<LaneTicket> = []
    /// How much room the next group needs that is not prepared yet; 0: none is missing.
    private(set) var missingRoom = 0
    let histograms = LogHistograms()
    var framesWritten: UInt64 = 0
    var batchesWritten: UInt64 = 0
    private(set) var bodyBytesWritten: UInt64 = 0
    private(set) var rawBodyBytesWritten: UInt64 = 0

    /// `end` is the log as recovery found it; a segment must be activated before anything else.
    init(options: WALOptions, regions: RegionTable, use: SegmentUse, end: LogEnd) {
        self.options = options
        self.use = use
        rare = options.rarePaths
        self.regions = regions
        nextLSN = end.nextLSN
        durableLSN = end.lastLSN
        lastWrittenLSN = end.lastLSN
        lastChecksum = end.lastChecksum
        lastDataLSN = end.lastLSN
        claimedLSN = end.lastLSN
        endOffset = 0
        footers = FooterQueue(options)
    }

    // MARK: Batches in

    /// Takes a batch's memory and gives empty memory back for it.
    ///
    /// The items must fit what the log holds: a gap or an append below the first index means that
    /// the log and its owner disagree, and stops the process.
    mutating func stage(_ storage: inout BatchStorage, lane: Int) -> UInt64 {
        let bytes = storage.encodedBytes
        histograms.framesInFlight.record(UInt64(inFlight.count))
        histograms.queuedBytes.record(UInt64(queuedBytes))
        var group = queued.last
        if let open = group,
            open.itemCount * FrameFormat.itemBytes + open.bodyBytes + bytes > groupLimit
                // A disk that is behind is behind with large groups.
                || queued.count < 8 && rare.takes(.groupPerBatch)
        {
            group = nil
        }
        let target = group ?? openGroup()
        if storage.holdsRewrites { mayHoldRewrites = true }
        stamp(storage, lsn: target.lsn)
        lastTicket += 1
        target.add(storage, lane: lane, ticket: lastTicket)
        queuedBytes += bytes
        let count = storage.itemCount
        storage = idleStorage()
        storage.expect(items: count)
        return lastTicket
    }

    private mutating func idleStorage() -> BatchStorage {
        guard let storage = idleStorages.popLast() else { return BatchStorage() }
        idleStorageBytes -= storage.capacityBytes
        return storage
    }

    /// So that an ordinary group fits several times in a segment, however small.
    private var groupLimit: Int { min(options.maxGroupBytes, options.segmentBytes / 4) }

    private mutating func openGroup() -> Group {
        let group = idleGroups.popLast() ?? Group()
        group.lsn = nextLSN
        nextLSN += 1
        queued.append(group)
        return group
    }

    private mutating func stamp(_ storage: BatchStorage, lsn: UInt64) {
        var bodyOffset = 0
        for position in 0..<storage.itemCount {
            let bytes = storage.item(at: position)
            guard let item = BatchItem.decode(bytes) else {
                invariant(false, "a batch holds an item that no log can hold")
                continue
            }
            invariant(
                !item.isCompressed || options.compressionThresholdBytes != nil,
                "a compressed body in a log without")
            let slot = regions.slot(of: item.region)
            BatchItem.setPreviousLSN(regions[slot].staged.lastLSN, in: bytes)
            let body = UnsafeRawBufferPointer(
                start: storage.body + bodyOffset, count: Int(item.bodyBytes))
            if let from = item.cut(regions[slot].staged) {
                cuts.append(LogTail(slot: slot, from: from, lsn: lsn))
            }
            let problem = regions[slot].staged.apply(item, body: body)
            invariant(problem == nil, "\(item.region) was given \(problem ?? "")")
            regions[slot].staged.lastLSN = lsn
            storage.slots.append(Int32(slot))
            bodyOffset += Int(item.bodyBytes)
        }
    }

    /// Whether a record under way takes entries of the region in `slot` that are before `end`.
    func isCut(_ slot: Int, before end: UInt64) -> Bool {
        cuts.contains { $0.slot == slot && $0.from.rawValue < end }
    }

    // MARK: Work out

    /// Whether a writer would find work now.
    var hasWork: Bool {
        failure == nil && !isActivating && missingRoom == 0
            && inFlight.count < (hasFullGroup ? mostInFlight : options.maxGroupsInFlight)
            && (!queued.isEmpty || wantsClaim)
    }

    /// Whether a group waits that cannot grow: another one was begun behind it.
    var hasFullGroup: Bool { queued.count > 1 }

    /// Groups in flight while full ones wait. A full group gains nothing by waiting, and while some are
    /// written another's bodies can be copied: under large entries the disk has always enough to do.
    var mostInFlight: Int {
        let some = options.maxGroupsInFlight
        return some == 1 ? 1 : min(2 * some, WALLimits.maxGroupsInFlight)
    }

    /// Whether everything submitted is durable.
    var isDrained: Bool { queued.isEmpty && inFlight.isEmpty && !isActivating }

    /// The next thing to do, if a slot is free and there is anything.
    mutating func next(newIncarnation: () -> UInt64) -> LogWork? {
        guard hasWork, let active else { return nil }
        if queued.isEmpty { _ = openGroup() }  // The claim: a frame without items.
        guard let group = queued.first else { return nil }
        if !inFlight.isEmpty, rare.takes(.frameAlone) { return nil }
        let size = UInt64(group.frameBytes)
        if !fits(group) || leavesEarly {
            #if BugBank
                let waits = !PlantedBug.rotatesWithoutBarrier.isPlanted
            #else
                let waits = true
            #endif
            guard inFlight.isEmpty || !waits else { return nil }
            isActivating = true
            isActivatingLast = isLast
            return .activate(successor(of: active, incarnation: newIncarnation()))
        }
        // A frame that is larger than a segment may end past what is prepared, once all of it is.
        let needed = min(endOffset + size, active.header.capacity)
        guard active.preparedTo >= needed else {
            missingRoom = Int(needed - active.preparedTo)
            return nil
        }
        queued.removeFirst()
        wantsClaim = false
        let buffer =
            group.isInPlace ? nil : idleBuffers.popLast() ?? FrameBuffer(prefersLargePages: true)
        group.close(
            into: buffer, segment: active, offset: endOffset, durableLSN: claim(for: group),
            previousChecksum: lastChecksum)
        footers.add(group)
        endOffset += size
        lastWrittenLSN = group.lsn
        lastChecksum = group.header.checksum
        inFlight.append(group)
        return .frame(group)
    }

    /// What a frame says is durable as it is written.
    private func claim(for group: Group) -> UInt64 {
        #if BugBank
            if PlantedBug.claimsItself.isPlanted { return group.lsn }
        #endif
        return durableLSN
    }

    /// Whether the active segment is left though it has room. The barrier holds as always.
    private var leavesEarly: Bool {
        guard inFlight.isEmpty, !isLast else { return false }
        let used = endOffset - UInt64(SegmentFormat.firstFrameOffset)
        return rare.takes(.segmentLeftEarly) && used > 0
            || used > 0 && used <= UInt64(FrameFormat.blockBytes) && rare.takes(.segmentLeftYoung)
            || used == 0 && rare.takes(.segmentLeftEmpty)
    }

    /// Whether the group's frame has room in the active segment, and the footer behind it.
    private func fits(_ group: Group) -> Bool {
        guard let active, active.header.mayHoldRewrites || !group.holdsRewrites else {
            return false
        }
        // A last segment has no footer, rather than less room.
        let footer = isLast ? 0 : footers.fileBytes(adding: group)
        let needed = group.frameBytes + footer
        return endOffset + UInt64(needed) <= active.header.capacity
            || endOffset == UInt64(SegmentFormat.firstFrameOffset)
                // Past a short one there are no blocks for it.
                && active.header.capacity >= UInt64(options.segmentBytes)
    }

    private func successor(of active: SegmentFile, incarnation: UInt64) -> SegmentHeader {
        SegmentHeader(
            log: active.header.log, segment: active.header.segment + 1, incarnation: incarnation,
            firstLSN: queued.first?.lsn ?? nextLSN, capacity: UInt64(options.segmentBytes),
            isAllocated: false, mayHoldCompressed: options.compressionThresholdBytes != nil,
            mayHoldRewrites: mayHoldRewrites,
            predecessor: active.header.segment, predecessorEnd: endOffset,
            predecessorLastLSN: lastWrittenLSN, predecessorChecksum: lastChecksum)
    }

    // MARK: Results in

    /// The new segment's header and name are durable.
    mutating func activated(_ segment: SegmentFile) {
        active?.end = endOffset
        footers.seal(active, end: endOffset, lastLSN: lastWrittenLSN, lastChecksum: lastChecksum)
        footers.begin(segment)
        use.begin(segment.header.segment)
        active = segment
        // Its header states where everything before it ends: as good as a claim.
        claimedLSN = max(claimedLSN, durableLSN)
        endOffset = UInt64(SegmentFormat.firstFrameOffset)
        isActivating = false
        missingRoom = 0
    }

    /// There is no prepared segment to activate; work goes on after ``roomGrew()``.
    mutating func postponeActivation() {
        isActivating = false
        // What asked for another segment may fit into this one, if that is known to be the last only since then.
        missingRoom = isLast && !isActivatingLast ? 0 : FrameFormat.blockBytes
    }

    /// More was prepared, of the active segment or of the next one.
    mutating func roomGrew() { missingRoom = 0 }

    /// Bytes that the active segment has room for as it is.
    var roomLeft: UInt64 {
        guard let active else { return 0 }
        return max(active.preparedTo, endOffset) - endOffset
    }

    /// The same when all of it is zeroed. Blocks that a file system did not reserve are not counted, nor what
    /// could not be zeroed.
    var roomAhead: UInt64 {
        guard let active, active.header.isAllocated, !failsToZero else { return roomLeft }
        return max(active.header.capacity, endOffset) - endOffset
    }

    /// What is left of it behind the frames that wait.
    var roomBehindAll: UInt64 { roomAhead - min(roomAhead, waitingFrameBytes) }

    /// Bytes of the frames that wait.
    private var waitingFrameBytes: UInt64 { queued.reduce(0) { $0 + UInt64($1.frameBytes) } }

    /// Whether a batch has room behind all that waits: where no segment follows, what has none would keep
    /// back what comes after it, for good.
    func hasRoom(for storage: BatchStorage) -> Bool {
        guard isLast else { return true }
        guard let active, active.header.mayHoldRewrites || !storage.holdsRewrites else {
            return false
        }
        let own = FrameFormat.frameBytes(
            itemCount: storage.itemCount, bodyBytes: storage.bodyBytes)
        var needed = waitingFrameBytes
        // It may get a frame of its own, or share one, which may repeat its directory for it.
        let shared = queued.last.map { last in
            FrameFormat.frameBytes(
                itemCount: last.itemCount + storage.itemCount,
                bodyBytes: last.bodyBytes + storage.bodyBytes) - last.frameBytes
        }
        needed += UInt64(max(own, shared ?? 0))
        return needed <= roomAhead
    }

    /// The group's frame is durable. Its tickets are given out once all frames before it are, too.
    mutating func completed(_ group: Group) {
        group.isDone = true
        guard failure == nil else { return }
        #if BugBank
            if PlantedBug.acknowledgesOutOfOrder.isPlanted {
                for ticket in group.tickets { deliver(ticket) }
            }
        #endif
        while let first = inFlight.first, first.isDone {
            inFlight.removeFirst()
            retire(first)
        }
        if rare.takes(.claimAtOnce) { claimIfIdle() }
    }

    private mutating func retire(_ group: Group) {
        let segment = group.header.segment
        invariant(group.lsn > durableLSN, "frame \(group.lsn) became durable twice")
        durableLSN = group.lsn
        framesWritten += 1
        batchesWritten += UInt64(group.storages.count)
        if !group.isClaim { lastDataLSN = group.lsn }
        claimedLSN = max(claimedLSN, group.header.durableLSN)
        for storage in group.storages where storage.itemCount > 1 { regions.touch(storage.slots) }
        var entries: UInt64 = 0
        group.forEachItem { slot, item, bodyOffset in
            if item.kind != .rewrite { entries += UInt64(item.count) }
            bodyBytesWritten += UInt64(item.bodyBytes)
            rawBodyBytesWritten += UInt64(item.rawBytes)
            regions[slot].becameDurable(item, segment: segment, bodyOffset: bodyOffset, use: use)
        }
        if !cuts.isEmpty {
            cuts.removeSubrange(..<(cuts.firstIndex { $0.lsn > group.lsn } ?? cuts.count))
        }
        if !group.isClaim {
            histograms.frameBatches.record(UInt64(group.storages.count))
            histograms.frameEntries.record(entries)
            histograms.frameBytes.record(UInt64(group.header.frameBytes))
        }
        for ticket in group.tickets {
            durableTicket = max(durableTicket, ticket.ticket)
            deliver(ticket)
        }
        for storage in group.storages {
            queuedBytes -= storage.encodedBytes
            recycle(storage)
        }
        if let buffer = group.buffer, !rare.takes(.frameBufferDropped) {
            buffer.trim()
            idleBuffers.append(buffer)
        }
        group.reset()
        idleGroups.append(group)
    }

    private mutating func deliver(_ ticket: LaneTicket) {
        for position in deliveries.indices where deliveries[position].lane == ticket.lane {
            deliveries[position].ticket = ticket.ticket
            return
        }
        deliveries.append(ticket)
    }

    private mutating func recycle(_ storage: BatchStorage) {
        guard idleStorageBytes + storage.capacityBytes <= options.maxQueueBytes / 2 else { return }
        storage.removeAll()
        idleStorageBytes += storage.capacityBytes
        idleStorages.append(storage)
    }

    /// Something failed whose effect on the disk is unknown: nothing is acknowledged any more.
    mutating func fail(_ error: WALError) {
        if failure == nil { failure = error }
        deliveries.removeAll()
    }

    // MARK: The idle claim

    /// Whether durable frames with records are not claimed by a later durable frame.
    var hasUnclaimed: Bool { lastDataLSN > claimedLSN }

    /// Asks for an empty frame that claims what is durable, if nothing else is under way.
    mutating func claimIfIdle() {
        if isDrained, hasUnclaimed, failure == nil { wantsClaim = true }
    }
}

/// The entries of one region from an index on, which a record supersedes or drops.
private struct LogTail {
    var slot: Int
    var from: LogIndex
    var lsn: UInt64
}

extension BatchItem {
    /// From where on this takes entries of a log that is so; nil: it takes none, but maybe from its
    /// beginning on.
    @inline(__always)
    fileprivate func cut(_ state: RegionState) -> LogIndex? {
        switch kind {
        case .append: count > 0 && firstIndex <= state.lastIndex ? firstIndex : nil
        case .reset, .tombstone: .zero
        case .compact, .birth, .carry, .rewrite: nil
        }
    }
}

/// Where a log ends, as recovery found it.
struct LogEnd: Hashable, Sendable {
    /// In its newest segment; 0: there is none.
    var offset: UInt64 = 0
    var lastLSN: UInt64 = 0
    var lastChecksum: UInt32 = 0
    var nextLSN: UInt64 = 1
}
