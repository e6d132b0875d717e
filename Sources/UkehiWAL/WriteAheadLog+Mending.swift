// Giving the log back a body that can no longer be read: in its place, byte for byte.
//
//   entries from a peer -> encoded, and compressed if the body was -> checksum as the directory has it
//        -> written over the damaged bytes, durably -> read back
//
// Why this is safe. What is written is what was written there before: the checksum that the frame's
// directory and the index have of the body says so. So a crash in between leaves some sectors as they
// were and some as they should be, both of which are known (docs/decisions/0012: and where a disk leaves
// junk); and the blocks of a frame hold no bytes of another one. No record is added, so that replay, purging and outside readers need not know.
//
// A body of which later entries superseded a part cannot be mended so: what else was in it, no peer has.
// The entries that are left of it are said again at the log's end, as rewriting does (``RecordKind/rewrite``),
// and once that is durable nobody needs the old place any more, nor is its segment held back by it. That
// they are the right ones, their indexes and terms say, which the caller compares (Raft §5.3).
//
// What cannot be mended at all: a body that this version's compressor makes other bytes of. Such entries
// are answered with an error until the log is compacted past them, and hold their segment so long.

package import UkehiBase
import UkehiEnvironment

/// What became of a damaged body.
package enum MendOutcome: Sendable, Hashable {
    /// It can be read again, and is durable.
    case mended
    /// It can be read again once the ticket is durable.
    case writtenAnew(Ticket)
    /// Nothing needs it any more: superseded, or compacted away.
    case gone
    /// There is no room for it now, or another rewriting is under way: nothing was done; mend it later.
    case later
    /// The entries given do not make up the body that was there. Nothing was changed.
    case mismatch
}

extension WriteAheadLog {
    /// The damaged entries as the index has them now; nil if nothing needs them any more. Their body may
    /// have held more, which was superseded.
    package func current(_ entries: DamagedEntries) -> DamagedEntries? {
        monitor.withLock {
            // One that ends later is another one.
            guard let block = block(at: entries.first, of: entries.region)?.block,
                block.end <= entries.last.rawValue + 1
            else { return nil }
            return DamagedEntries(
                region: entries.region, first: entries.first, last: LogIndex(block.end - 1))
        }
    }

    /// Writes a damaged body again from its entries, which begin at `first` and are all that is left of
    /// it. Blocks on input and output.
    ///
    /// The caller sees to it that each entry has the term that the region's log has at its index: of a body
    /// that was superseded in part no checksum says whether they are those.
    ///
    /// - Throws: ``WALError``: `.ioFailed`, and the log has stopped; `.corrupted` when the disk gives
    ///   other bytes than were just written to it.
    package func mend(
        region: RegionID, first: LogIndex, entries: [Entry]
    ) throws(WALError) -> MendOutcome {
        // Holding the segment keeps its file from beginning another life.
        guard
            let (segment, block) = monitor.withLock({ self.block(at: first, of: region) })
        else { return .gone }
        if block.isCut {
            // Its frame may have been reported for its directory, or the disk have come round.
            if (try? read(block, in: segment, region)) != nil { return .mended }
            return writeAnew(entries, of: region, block)
        }
        guard let body = LogBatch.body(of: entries, as: block) else { return .mismatch }
        let seed = FrameFormat.bodySeed(region: region, firstIndex: first)
        let checksum = body.withUnsafeBytes { CRC32C.checksum($0, seed: seed) }
        guard checksum == block.bodyChecksum else { return .mismatch }
        do throws(FileError) {
            try WriteAheadLog.overwrite(segment.file, with: body, at: UInt64(block.bodyOffset))
        } catch {
            let failure = WALError(
                error, effect: "The log has stopped and acknowledges nothing more")
            fail(failure)
            throw failure
        }
        _ = try read(block, in: segment, region)
        monitor.withLock { counters.mendedBodies += 1 }
        return .mended
    }

    /// Says what is left of a block's entries again, if these can be they.
    private func writeAnew(
        _ entries: [Entry], of region: RegionID, _ block: IndexBlock
    ) -> MendOutcome {
        guard LogBatch.areEntries(entries, leftOf: block),
            let slot = monitor.withLock({ scheduler.regions.find(region) })
        else { return .mismatch }
        var piece = RewritePiece(slot: slot, region: region, blocks: [block], first: block.first)
        piece.first = monitor.withLock { needed(piece) }
        var batch = newBatch()
        batch.rewrite(region: region, entries: entries.filter { $0.index.rawValue >= piece.first })
        monitor.lock()
        defer { monitor.unlock() }
        // Being superseded or compacted away: whoever still misses something will find what.
        guard scheduler.failure == nil, isAsItWas(piece) else { return .gone }
        // A rewrite under way may hold the same entries, within more: one would cut the other's block.
        guard rewriteTicket <= scheduler.durableTicket, scheduler.hasRoom(for: batch.storage)
        else { return .later }
        counters.mendedBodies += 1
        let ticket = scheduler.stage(&batch.storage, lane: WriteAheadLog.ownLane)
        wakeWriter()
        return .writtenAnew(ticket)
    }

    /// The block that begins at `first`, with its segment. Called with the lock held.
    private func block(
        at first: LogIndex, of region: RegionID
    ) -> (segment: SegmentFile, block: IndexBlock)? {
        guard let slot = scheduler.regions.find(region) else { return nil }
        let index = scheduler.regions[slot].index
        guard let position = index.position(of: first.rawValue),
            let block = index.block(at: position), block.first == first.rawValue,
            let segment = segment(UInt64(block.segment))
        else { return nil }
        return (segment, block)
    }

    /// Puts `body` into the blocks it lies in, as they are read now. Only blocks that change are written: a
    /// write that the power interrupts can harm what else is in its blocks.
    private static func overwrite(
        _ file: any File, with body: Bytes, at offset: UInt64
    ) throws(FileError) {
        let blockBytes = UInt64(FrameFormat.blockBytes)
        let start = offset / blockBytes * blockBytes
        let count = FrameFormat.roundUp(Int(offset - start) + body.count)
        let buffer = FrameBuffer(capacity: count)
        let blocks = UnsafeMutableRawBufferPointer(start: buffer.base, count: count)
        guard try file.read(into: blocks, at: start) == count else {
            throw FileError(kind: .ioFailed, operation: "pread", path: "a segment that was cut")
        }
        let changed = body.withUnsafeBytes { source in
            let place = UnsafeMutableRawBufferPointer(
                rebasing: blocks[Int(offset - start)...].prefix(source.count))
            let first = source.indices.first { source[$0] != place[$0] }
            let last = source.indices.last { source[$0] != place[$0] }
            place.copyMemory(from: source)
            return first.flatMap { first in last.map { first...$0 } }
        }
        guard let changed else { return }
        let before = Int(offset - start)
        let from = (before + changed.lowerBound) / FrameFormat.blockBytes * FrameFormat.blockBytes
        let to = FrameFormat.roundUp(before + changed.upperBound + 1)
        try file.writeDurably(
            UnsafeRawBufferPointer(rebasing: blocks[from..<to]), at: start + UInt64(from))
    }
}

extension LogBatch {
    /// Whether `entries` can be those that a block still has of a body that held more.
    fileprivate static func areEntries(_ entries: [Entry], leftOf block: IndexBlock) -> Bool {
        guard entries.count == Int(block.count) else { return false }
        var (bytes, term) = (0, Term.zero)
        for (position, entry) in entries.enumerated() {
            guard entry.index.rawValue == block.first + UInt64(position), entry.term >= term else {
                return false
            }
            term = entry.term
            bytes += entry.recordBytes
        }
        return bytes < Int(block.rawBytes)
    }

    /// The bytes that `entries` were in a block's body; nil if they cannot have been.
    fileprivate static func body(of entries: [Entry], as block: IndexBlock) -> Bytes? {
        guard entries.count == Int(block.count) else { return nil }
        var rawBytes = 0
        for (position, entry) in entries.enumerated() {
            guard entry.index.rawValue == block.first + UInt64(position) else { return nil }
            rawBytes += entry.recordBytes
        }
        guard rawBytes == Int(block.rawBytes) else { return nil }
        let storage = BatchStorage()
        for entry in entries { storage.appendRecord(entry) }
        return withExtendedLifetime(storage) { stored(storage, as: block) }
    }

    private static func stored(_ storage: BatchStorage, as block: IndexBlock) -> Bytes? {
        let raw = UnsafeRawBufferPointer(start: storage.body, count: storage.bodyBytes)
        guard block.isCompressed else { return Bytes(copying: raw) }
        // What it gives is in its own memory.
        let compressor = BodyCompressor(thresholdBytes: 1)
        return withExtendedLifetime(compressor) {
            guard let packed = compressor.compress(raw), packed.count == Int(block.bodyBytes) else {
                return nil
            }
            return Bytes(copying: packed)
        }
    }
}
