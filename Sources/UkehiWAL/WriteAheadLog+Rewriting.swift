// Entries that hold many dead bytes back are said again at the log's end.
//
//   oldest | lagging region's | dead ... | dead ... | resting region's | dead ... | what others need ...
//            entries 7 to 9                           entries 1 to 3
//
// The owner is told first who holds a segment back, and can often let go (``PurgeStep``). A region that
// cannot, since a peer lags or nothing of it was flushed, would keep everything that others wrote since.
// So once some of the oldest segments are at least two, and together twice what is needed
// of them, what is needed of the oldest is written again, then of the next. Hence
//
//   - segments take less than twice what is needed of them, or are less than two, the active one aside;
//   - of each byte appended about one is written again at most, since a rewrite frees twice its own size.
//
// Why this is safe. A rewrite record says which entries a region has, in a range, at the record's own
// place in the log: what was submitted before it is known when it is submitted, under the same lock. So
// replaying with it or without it is the same (as with a carry), whatever came between the entries' old
// place and the new one; and what comes after it takes from it as from any other. Nothing of it may be
// taken by a record that is under way, though: such entries are left for the next time. Once it is
// durable the old place is not needed, in the index nor by a replay that no longer finds it.

import UkehiBase

extension WriteAheadLog {
    /// Whether writing again what is needed of the oldest segments frees enough, if it is gone on with.
    /// Called with the lock held.
    var isWorthRewriting: Bool {
        scheduler.use.isWorthRewriting(segments.dropLast().lazy.map(\.fileBytes))
    }

    /// Writes entries again that hold the scanned segment back, as much as a step may; nil if none could
    /// be. One thread at a time.
    func rewrite(_ scan: PurgeScan) -> PurgeStep? {
        let earlier = monitor.withLock { () -> Ticket? in
            // What is under way would be written twice.
            if rewriteTicket > scheduler.durableTicket { return rewriteTicket }
            if isRewriting { return 0 }
            isRewriting = true
            return nil
        }
        if let earlier { return earlier > 0 ? .carried(regions: 0, earlier) : nil }
        defer { monitor.withLock { isRewriting = false } }

        var step = RewriteStep(
            segment: scan.segment, batch: newBatch(),
            left: min(WALLimits.maxRewrittenBytes, options.maxQueueBytes / 8))
        for pinning in scan.pinning where step.left > 0 {
            let found = monitor.withLock { pieces(pinning, scan.segment, bytes: step.left) }
            for piece in found {
                guard let entries = entries(of: piece) else { continue }
                step.add(piece, entries)
                if step.batch.encodedBytes >= options.maxGroupBytes / 2 { stage(&step) }
            }
        }
        stage(&step)
        return step.last.map { .carried(regions: step.regions, $0) }
    }

    /// One step under way.
    private struct RewriteStep: ~Copyable {
        var segment: UInt64
        var batch: LogBatch
        /// Of each item in the batch.
        var pieces: [RewritePiece] = []
        var left: Int
        var regions = 0
        var lastSlot: Int?
        var last: Ticket?

        init(segment: UInt64, batch: consuming LogBatch, left: Int) {
            self.segment = segment
            self.batch = batch
            self.left = left
        }

        mutating func add(_ piece: RewritePiece, _ entries: [Entry]) {
            batch.rewrite(region: piece.region, entries: entries)
            pieces.append(piece)
            left -= piece.rawBytes
        }
    }

    /// Neighbouring blocks of one region in one segment, as far as their entries are needed.
    private struct RewritePiece {
        var slot: Int
        var region: RegionID
        var blocks: [IndexBlock]
        var first: UInt64
        var end: UInt64 { blocks.last?.end ?? first }
        var rawBytes: Int { blocks.reduce(0) { $0 + Int($1.rawBytes) } }
    }

    /// What of a region is to be written again, about `bytes` at most. Called with the lock held.
    private func pieces(
        _ pinning: PurgeScan.Pinning, _ segment: UInt64, bytes: Int
    ) -> [RewritePiece] {
        guard let segment = UInt32(exactly: segment) else { return [] }
        let most = min(WALLimits.rewrittenBatchBytes, options.segmentBytes / 8)
        var pieces: [RewritePiece] = []
        var (size, left) = (0, bytes)
        scheduler.regions[pinning.slot].index.forEach(in: segment) { block in
            let raw = Int(block.rawBytes)
            if let last = pieces.last, last.end == block.first, size + raw <= most {
                pieces[pieces.count - 1].blocks.append(block)
                size += raw
            } else {
                guard left > 0 else { return false }
                pieces.append(
                    RewritePiece(
                        slot: pinning.slot, region: pinning.region, blocks: [block],
                        first: block.first))
                size = raw
            }
            left -= raw
            return true
        }
        for position in pieces.indices { pieces[position].first = needed(pieces[position]) }
        return pieces.filter { isAsItWas($0) }
    }

    /// Where what is needed of a piece begins. Called with the lock held.
    private func needed(_ piece: RewritePiece) -> UInt64 {
        max(piece.blocks[0].first, scheduler.regions[piece.slot].staged.firstIndex.rawValue)
    }

    /// Whether exactly the piece's entries are what the log holds of them, when everything submitted is
    /// durable. Called with the lock held.
    private func isAsItWas(_ piece: RewritePiece) -> Bool {
        guard piece.first < piece.end, needed(piece) == piece.first,
            !scheduler.isCut(piece.slot, before: piece.end),
            let position = scheduler.regions[piece.slot].index.position(of: piece.first)
        else { return false }
        // Blocks are never put twice in one place: the same place is the same entries.
        let index = scheduler.regions[piece.slot].index
        let wanted = piece.blocks.drop { $0.end <= piece.first }
        return wanted.enumerated().allSatisfy {
            index.block(at: position + $0.offset) == $0.element
        }
    }

    /// Reads them; nil if they cannot be, which those who need them are told when they read.
    private func entries(of piece: RewritePiece) -> [Entry]? {
        var found: [Entry] = []
        var next = LogIndex(piece.first)
        let end = LogIndex(piece.end)
        do throws(WALError) {
            while next < end {
                let some = try entries(
                    region: piece.region, from: next, to: end, maxBytes: piece.rawBytes)
                guard let last = some.last?.index else { return nil }
                found += some
                next = last + 1
            }
        } catch {
            return nil
        }
        return found
    }

    /// Submits what of the batch is still as it was read, with the states of its regions that are in the
    /// segment, too.
    private func stage(_ step: inout RewriteStep) {
        guard !step.batch.isEmpty else { return }
        monitor.lock()
        defer {
            monitor.unlock()
            step.batch.removeAll()
            step.pieces.removeAll(keepingCapacity: true)
        }
        guard scheduler.failure == nil else { return }
        let isKept = step.pieces.map { isAsItWas($0) }
        step.batch.keepItems { isKept[$0] }
        counters.rewrittenBytes += UInt64(step.batch.encodedBytes)
        for (piece, isKept) in zip(step.pieces, isKept)
        where isKept && piece.slot != step.lastSlot {
            step.lastSlot = piece.slot
            step.regions += 1
            counters.regionsRewritten += 1
            guard scheduler.regions[piece.slot].hasState(in: step.segment) else { continue }
            let before = step.batch.encodedBytes
            step.batch.carry(region: piece.region, state: scheduler.regions[piece.slot].staged)
            counters.statesCarried += 1
            counters.carriedBytes += UInt64(step.batch.encodedBytes - before)
        }
        guard !step.batch.isEmpty else { return }
        rewriteTicket = scheduler.stage(&step.batch.storage, lane: WriteAheadLog.ownLane)
        step.last = rewriteTicket
        wakeWriter()
    }
}
