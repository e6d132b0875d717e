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
//   - after purging, sealed segments take at most twice what is needed of the log, or are fewer than two;
//   - of each byte appended about one is written again at most, since a rewrite frees twice its own size.
//
// The first does not hold while something of the oldest segment cannot be written again: entries that a
// record under way takes, until that is durable; and a body that cannot be read, until a peer gives it back
// or the log is compacted past it. The owner is told of such a body as soon as purging meets it.
//
// Why this is safe. A rewrite record says which entries a region has, in a range, at the record's own
// place in the log: what was submitted before it is known when it is submitted, under the same lock. So
// replaying with it or without it is the same (as with a carry), whatever came between the entries' old
// place and the new one; and what comes after it takes from it as from any other. Nothing of it may be
// taken by a record that is under way, though: such entries are left for the next time. Once it is
// durable the old place is not needed, in the index nor by a replay that no longer finds it.

import UkehiBase
import UkehiEnvironment

extension WriteAheadLog {
    /// Whether writing again what is needed of the oldest segments frees enough, if it is gone on with.
    /// Called with the lock held.
    var isWorthRewriting: Bool {
        scheduler.use.isWorthRewriting(segments.dropLast().lazy.map(\.fileBytes))
    }

    /// Whether the owner need not be told first: sealed segments take more than twice what is needed of the
    /// log. Called with the lock held.
    var isPressing: Bool {
        let sealed = segments.dropLast()
        guard sealed.count >= WALLimits.leastFreedByRewriting else { return false }
        let needed = scheduler.use.counts.reduce(0) { $0 + $1.liveBytes }
        return sealed.reduce(0) { $0 + $1.fileBytes } > 2 * needed
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

        guard let source = monitor.withLock({ segment(scan.segment) }) else { return nil }
        var left = min(WALLimits.maxRewrittenBytes, options.maxQueueBytes / 8)
        var pieces: [RewritePiece] = []
        for pinning in scan.pinning where left > 0 {
            for piece in monitor.withLock({ self.pieces(pinning, scan.segment, bytes: left) }) {
                left -= piece.rawBytes
                pieces.append(piece)
            }
        }
        // As they lie, so that one read gets many.
        pieces.sort { $0.blocks[0].bodyOffset < $1.blocks[0].bodyOffset }
        var step = RewriteStep(segment: scan.segment, batch: newBatch())
        let bodies = BodyWindow(source, pieces.flatMap(\.blocks))
        for piece in pieces {
            guard step.batch.rewrite(piece, bodies) else { continue }
            step.pieces.append(piece)
            if step.batch.encodedBytes >= options.maxGroupBytes / 2 { stage(&step) }
        }
        stage(&step)
        tell(bodies.unreadable, in: source)
        return step.last.map { .carried(regions: step.regions, $0) }
    }

    /// Tells of bodies that could not be read, each once: while they cannot, they hold their segment and all
    /// behind it, so that nobody should have to come upon them first. One thread at a time.
    private func tell(_ unreadable: [DamagedEntries], in segment: SegmentFile) {
        let id = segment.header.segment
        if toldUnreadable.segment != id { toldUnreadable = (id, []) }
        for entries in unreadable where toldUnreadable.bodies.insert(entries).inserted {
            let damage = LogDamage(
                error: WALError(
                    .corrupted,
                    "Entries \(entries.first) to \(entries.last) of \(entries.region) cannot be "
                        + "read, and hold segment \(id) and all behind it. They must come from a "
                        + "peer; check the disk."),
                entries: [entries])
            monitor.withLock { counters.damagedRanges += 1 }
            damagedHandler?(damage)
        }
    }

    /// One step under way.
    private struct RewriteStep: ~Copyable {
        var segment: UInt64
        var batch: LogBatch
        /// Of each item in the batch.
        var pieces: [RewritePiece] = []
        var regions: Int { slots.count }
        var slots: Set<Int> = []
        var last: Ticket?

        init(segment: UInt64, batch: consuming LogBatch) {
            self.segment = segment
            self.batch = batch
        }
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
    func needed(_ piece: RewritePiece) -> UInt64 {
        max(piece.blocks[0].first, scheduler.regions[piece.slot].staged.firstIndex.rawValue)
    }

    /// Whether exactly the piece's entries are what the log holds of them, when everything submitted is
    /// durable. Called with the lock held.
    func isAsItWas(_ piece: RewritePiece) -> Bool {
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
        let entryBytes = step.batch.encodedBytes
        var states: UInt64 = 0
        let slots = step.slots.count
        for (piece, isKept) in zip(step.pieces, isKept)
        where isKept && step.slots.insert(piece.slot).inserted {
            guard scheduler.regions[piece.slot].hasState(in: step.segment) else { continue }
            step.batch.carry(region: piece.region, state: scheduler.regions[piece.slot].staged)
            states += 1
        }
        guard !step.batch.isEmpty, scheduler.hasRoom(for: step.batch.storage) else { return }
        counters.rewrittenBytes += UInt64(entryBytes)
        counters.regionsRewritten += UInt64(step.slots.count - slots)
        counters.statesCarried += states
        counters.carriedBytes += UInt64(step.batch.encodedBytes - entryBytes)
        rewriteTicket = scheduler.stage(&step.batch.storage, lane: WriteAheadLog.ownLane)
        step.last = rewriteTicket
        wakeWriter()
    }
}

/// Neighbouring blocks of one region in one segment, as far as their entries are needed.
struct RewritePiece {
    var slot: Int
    var region: RegionID
    var blocks: [IndexBlock]
    var first: UInt64
    var end: UInt64 { blocks.last?.end ?? first }
    var rawBytes: Int { blocks.reduce(0) { $0 + Int($1.rawBytes) } }
}

/// Bodies of one segment, read one after the other: those that lie close together at once.
private final class BodyWindow {
    /// While this holds it its file begins no other life.
    private let segment: SegmentFile
    private let blocks: [IndexBlock]
    /// The block that is read next.
    private var next = 0
    private let buffer = FrameBuffer(capacity: 1 << 20)
    private var start = 0
    private var count = 0
    private let scratch = DecompressedBody()
    private var isFailing = false
    private(set) var unreadable: [DamagedEntries] = []

    /// Between two bodies that are read at once.
    private static let largestGap = 16 << 10

    init(_ segment: SegmentFile, _ blocks: [IndexBlock]) {
        self.segment = segment
        self.blocks = blocks
    }

    /// The next block's body as it was before it was compressed, until the next call; nil if it cannot be
    /// read, and then it is one of ``unreadable`` unless it is the disk that gives nothing.
    func body(of block: IndexBlock, _ region: RegionID) -> UnsafeRawBufferPointer? {
        defer { next += 1 }
        if let body = readBody(of: block, region) { return body }
        if isFailing { return nil }
        unreadable.append(
            DamagedEntries(
                region: region, first: LogIndex(block.first), last: LogIndex(block.end - 1)))
        return nil
    }

    private func readBody(of block: IndexBlock, _ region: RegionID) -> UnsafeRawBufferPointer? {
        let (offset, size) = (Int(block.bodyOffset), Int(block.bodyBytes))
        if offset < start || offset + size > start + count { read() }
        guard offset >= start, offset + size <= start + count else { return nil }
        let stored = UnsafeRawBufferPointer(start: buffer.base + (offset - start), count: size)
        let seed = FrameFormat.bodySeed(region: region, firstIndex: LogIndex(block.first))
        guard CRC32C.checksum(stored, seed: seed) == block.bodyChecksum else { return nil }
        guard block.isCompressed else { return stored }
        return scratch.decompress(stored, rawBytes: Int(block.rawBytes))
    }

    private func read() {
        start = Int(blocks[next].bodyOffset)
        var end = start + Int(blocks[next].bodyBytes)
        for block in blocks[next...].dropFirst() {
            let (from, to) = (Int(block.bodyOffset), Int(block.bodyOffset) + Int(block.bodyBytes))
            guard from >= start, from - end <= BodyWindow.largestGap, to - start <= 1 << 20 else {
                break
            }
            end = max(end, to)
        }
        buffer.reserve(end - start)
        let room = UnsafeMutableRawBufferPointer(start: buffer.base, count: end - start)
        let found = try? segment.file.read(into: room, at: UInt64(start))
        isFailing = found == nil
        count = found ?? 0
    }
}

extension LogBatch {
    /// Adds a piece's entries, their records as they are; false if they cannot be read.
    fileprivate mutating func rewrite(_ piece: RewritePiece, _ bodies: BodyWindow) -> Bool {
        let start = storage.bodyBytes
        var item = BatchItem(region: piece.region, kind: .rewrite)
        item.firstIndex = LogIndex(piece.first)
        item.count = UInt32(piece.end - piece.first)
        var runs = 0
        var isRead = true
        for block in piece.blocks {
            // Each is asked for, so that the window knows what comes next.
            guard let body = bodies.body(of: block, piece.region) else {
                isRead = false
                continue
            }
            // Entries before the piece's first one are compacted away, those behind the block's last one
            // superseded.
            var (from, to) = (0, 0)
            let walk = walkRecords(Int(block.count), in: body) { position, record in
                let isNeeded = block.first + UInt64(position) >= piece.first
                to = record.offset + record.count
                if !isNeeded { from = to }
                guard isNeeded, runs == 0 || record.term != item.lastTerm else { return }
                item.lastTerm = record.term
                runs += 1
            }
            if case .broken = walk { isRead = false }
            storage.appendBody(UnsafeRawBufferPointer(rebasing: body[from..<to]))
        }
        guard isRead else {
            storage.removeBody(from: start)
            return false
        }
        finishRewrite(&item, bodyFrom: start, runs: runs)
        return true
    }
}
