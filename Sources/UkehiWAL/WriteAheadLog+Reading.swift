// Reading durable entries back from their segments, on any thread.

package import UkehiBase
import UkehiEnvironment

extension WriteAheadLog {
    /// The durable entries of `region` in `from..<to`: at least one, then no more than `maxBytes`
    /// of data in all, and none from a damaged body on. Blocks on input; every byte is checked again.
    ///
    /// - Throws: ``WALError``: `.compacted` below the first index, `.unavailable` past the last
    ///   durable one, `.corrupted` when the first body's bytes are not what was written;
    ///   ``WALError/damaged`` then says what is in it.
    package func entries(
        region: RegionID, from: LogIndex, to: LogIndex, maxBytes: Int
    ) throws(WALError) -> [Entry] {
        guard from < to else { return [] }
        let plan = try planRead(region, from, to, maxBytes)
        var entries: [Entry] = []
        var bytes = 0
        for step in plan {
            var body: Bytes
            do throws(WALError) {
                body = try read(step.block, in: step.segment, region)
                if options.rarePaths.takes(.readTwice) {
                    body = try read(step.block, in: step.segment, region)
                }
            } catch {
                guard error.damaged != nil, !entries.isEmpty else { throw error }
                break
            }
            var isFull = false
            let problem = body.withUnsafeBytes { raw in
                // Entries behind the block's last were superseded; they stay unread.
                walkRecords(Int(step.block.count), in: raw) { position, record in
                    let index = LogIndex(step.block.first + UInt64(position))
                    guard index >= from, index < to, !isFull else { return }
                    if !entries.isEmpty, bytes + record.count > maxBytes {
                        isFull = true
                        return
                    }
                    bytes += record.count
                    entries.append(
                        Entry(
                            term: record.term, index: index, kind: record.kind,
                            data: body[record.offset..<record.offset + record.count]))
                }
            }
            if case .broken(let reason) = problem { throw step.block.corruption(reason, region) }
            if isFull { break }
        }
        return entries
    }

    /// One body to read.
    private struct ReadStep {
        var segment: SegmentFile
        var block: IndexBlock
    }

    private func planRead(
        _ region: RegionID, _ from: LogIndex, _ to: LogIndex, _ maxBytes: Int
    ) throws(WALError) -> [ReadStep] {
        try monitor.withLock { () throws(WALError) in
            guard let slot = scheduler.regions.find(region) else {
                throw WALError(.unavailable, "\(region) is not in the log.")
            }
            guard from >= scheduler.regions[slot].firstIndex else {
                throw WALError(
                    .compacted,
                    "Entry \(from) of \(region) is compacted away; the log begins at "
                        + "\(scheduler.regions[slot].firstIndex).")
            }
            let last = scheduler.regions[slot].index.last?.end ?? 0
            guard to.rawValue <= last,
                var position = scheduler.regions[slot].index.position(of: from.rawValue)
            else {
                throw WALError(
                    .unavailable,
                    "Entries up to \(to - 1) of \(region) are not durable; the last that is: "
                        + "\(last == 0 ? 0 : last - 1).")
            }
            var steps: [ReadStep] = []
            var bytes = 0
            while let block = scheduler.regions[slot].index.block(at: position),
                block.first < to.rawValue, bytes < max(maxBytes, 1)
            {
                guard let segment = segment(UInt64(block.segment)) else {
                    throw WALError(
                        .corrupted,
                        "Entries of \(region) are in segment \(block.segment), which is gone.",
                        at: LogPosition(segment: UInt64(block.segment), offset: 0))
                }
                steps.append(ReadStep(segment: segment, block: block))
                // Of the first block maybe only the last entries are wanted.
                if steps.count > 1 { bytes += Int(block.rawBytes) }
                position += 1
                if options.rarePaths.takes(.readOneBlock) { break }
            }
            return steps
        }
    }

    /// Called with the lock held. Ids are consecutive.
    func segment(_ id: UInt64) -> SegmentFile? {
        guard let first = segments.first?.header.segment, id >= first,
            id - first < UInt64(segments.count)
        else { return nil }
        return segments[Int(id - first)]
    }

    /// A block's body as it was before it was compressed, checked.
    func read(
        _ block: IndexBlock, in segment: SegmentFile, _ region: RegionID
    ) throws(WALError) -> Bytes {
        let count = Int(block.bodyBytes)
        let body: Bytes
        do throws(FileError) {
            body = try Bytes(count: count) { (buffer) throws(FileError) in
                try segment.file.read(into: buffer, at: UInt64(block.bodyOffset))
            }
        } catch {
            throw WALError(error, effect: "Entries of \(region) were not read")
        }
        let seed = FrameFormat.bodySeed(region: region, firstIndex: LogIndex(block.first))
        #if BugBank
            let isChecked = !PlantedBug.readsUnchecked.isPlanted
        #else
            let isChecked = true
        #endif
        guard
            body.count == count,
            !isChecked || CRC32C.checksum(body, seed: seed) == block.bodyChecksum
        else { throw block.corruption("their checksum is wrong", region) }
        guard block.isCompressed else { return body }
        guard let raw = BodyCompression.decompressed(body, rawBytes: Int(block.rawBytes))
        else { throw block.corruption("they are compressed to something else", region) }
        return raw
    }
}

extension IndexBlock {
    fileprivate func corruption(_ reason: String, _ region: RegionID) -> WALError {
        WALError(
            .corrupted,
            "Entries \(first) to \(end - 1) of \(region) cannot be read: \(reason). They must "
                + "come from a peer; check the disk.",
            at: LogPosition(segment: UInt64(segment), offset: UInt64(bodyOffset)),
            damaged: DamagedEntries(
                region: region, first: LogIndex(first), last: LogIndex(end - 1)))
    }
}
